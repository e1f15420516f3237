"""A fleet that has served for a while: what its workers cache, and who asks next. Pure.

Shared system prompts lie on many workers, the more popular on more; a conversation lies on one
worker or two, as deep as it has come. A prompt is 4,096 tokens: 256 blocks of 16.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from struct import pack

from xxhash import xxh3_64_intdigest

from headway.scheduler.v1 import scheduler_pb2 as pb

BLOCK_TOKENS = 16
PROMPT_BLOCKS = 256
PROMPT_TOKENS = PROMPT_BLOCKS * BLOCK_TOKENS
SYSTEM_PROMPTS = 64
SYSTEM_BLOCKS = 64
CONVERSATIONS_A_WORKER = 3
LEAST_DEPTH = 96
MAX_TOKENS = 256
MODEL = "warm"

Blocks = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The blocks of its next prompt, and how many of them its workers cache."""

    blocks: Blocks
    depth: int
    workers: tuple[int, ...]


def hello(number: int, max_running: int) -> pb.Hello:
    """What the worker of this number says when it joins."""
    return pb.Hello(
        worker_id=f"worker-{number:04d}",
        address=f"worker-{number:04d}:1",
        epoch=1,
        kind=pb.WORKER_KIND_GENERATE,
        models=[MODEL],
        block_size=BLOCK_TOKENS,
        capacity_blocks=8192,
        max_running=max_running,
        step_budget_tokens=8192,
        max_model_tokens=65_536,
        engine="talks only",
    )


class WarmFleet:
    """What so many workers cache, by a seed."""

    def __init__(self, workers: int, seed: int) -> None:
        self._chance = Random(seed)
        self._systems = [_chain(f"system {n}", SYSTEM_BLOCKS) for n in range(SYSTEM_PROMPTS)]
        self._holders = [
            self._chance.sample(range(workers), max(1, min(workers, workers // (number + 2))))
            for number in range(SYSTEM_PROMPTS)
        ]
        self.conversations = [
            self._conversation(number, workers)
            for number in range(workers * CONVERSATIONS_A_WORKER)
        ]
        self.caches = self._caches(workers)

    def prompts(self, count: int) -> Iterator[Blocks]:
        """Who asks next: eight of ten go on with a conversation, one begins one, one is alone."""
        for number in range(count):
            draw = self._chance.random()
            if draw < 0.8:
                yield self._chance.choice(self.conversations).blocks
            elif draw < 0.9:
                yield self._begun(f"begun {number}", self._system())
            else:
                yield _chain(f"alone {number}", PROMPT_BLOCKS)

    def _conversation(self, number: int, workers: int) -> Conversation:
        depth = self._chance.randrange(LEAST_DEPTH, PROMPT_BLOCKS)
        on = self._chance.sample(range(workers), min(workers, 1 + (number % 4 == 0)))
        return Conversation(self._begun(f"talk {number}", self._system()), depth, tuple(on))

    def _system(self) -> int:
        return int(self._chance.paretovariate(0.7)) % SYSTEM_PROMPTS

    def _begun(self, name: str, system: int) -> Blocks:
        shared = self._systems[system]
        return shared + _chain(f"{system} {name}", PROMPT_BLOCKS - len(shared))

    def _caches(self, workers: int) -> list[Sequence[int]]:
        # A dictionary keeps the order: parents come before their children, as engines store them.
        caches: list[dict[int, None]] = [{} for _ in range(workers)]
        for blocks, on in zip(self._systems, self._holders, strict=True):
            for worker in on:
                caches[worker].update(dict.fromkeys(blocks))
        for talk in self.conversations:
            for worker in talk.workers:
                caches[worker].update(dict.fromkeys(talk.blocks[: talk.depth]))
        return [list(cache) for cache in caches]


def _chain(name: str, blocks: int) -> Blocks:
    root = xxh3_64_intdigest(name.encode())
    return tuple(xxh3_64_intdigest(pack("<QQ", root, number)) for number in range(blocks))
