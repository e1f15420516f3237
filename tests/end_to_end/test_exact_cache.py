"""vLLM's own cache, and what the scheduler knows of it, block by block after every engine step.

The engine's core runs in this process, so its block pool can be read. Everything after it is as
in a fleet: vLLM's publisher and its sockets, the worker's translation, `Join`, the index.
"""

import asyncio
import os
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from services.blocks import block_hashes, chain_root, read_hashes
from services.scheduler.scheduler import Scheduler
from services.worker.engine import EngineFacts, EngineLoad, KvEvent
from services.worker.identity import Identity
from services.worker.join import Joining
from services.worker.metrics import Metrics
from services.worker.parsers import NoParsers
from services.worker.vllm_events import Subscription
from services.worker.worker import Worker
from tests.scheduler.conftest import running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("default"),  # vLLM's own
]

MODEL = "main"
BLOCK = 32
BLOCKS = 18
"""So few that something is evicted in almost every round."""
ROUNDS = 24
HEARD_S = 10.0


class Caching:
    """A vLLM engine whose core is in this process, driven step by step in a thread of its own."""

    def __init__(self, model: Path, sockets: Path) -> None:
        self._model = model
        self._sockets = sockets
        self._thread = ThreadPoolExecutor(1)
        self._subscription = Subscription(*self._endpoints())
        self._engine: Any = None
        self._ours: dict[bytes, int] = {}
        """vLLM's hash of each block that was ever seen, and ours."""

    async def start(self) -> None:
        await self._run(self._build)

    async def stop(self) -> None:
        await self._run(self._engine.engine_core.shutdown)
        self._subscription.close()
        self._thread.shutdown()

    async def kv_events(self) -> AsyncIterator[list[KvEvent]]:
        async for batch in self._subscription.batches():
            yield batch

    def load(self) -> EngineLoad:
        return EngineLoad()

    async def add(self, name: str, tokens: Sequence[int], new_tokens: int) -> None:
        await self._run(self._add, name, tokens, new_tokens)

    async def step(self) -> list[Any]:
        """One engine step: its outputs."""
        outputs: list[Any] = await self._run(self._step)
        return outputs

    async def reset(self) -> bool:
        """Empty the cache."""
        emptied: bool = await self._run(self._engine.reset_prefix_cache)
        return emptied

    @property
    def is_busy(self) -> bool:
        busy: bool = self._engine.has_unfinished_requests()
        return busy

    def cached(self) -> set[int]:
        """The blocks in the engine's own pool, by our hashes."""
        pool = self._engine.engine_core.engine_core.scheduler.kv_cache_manager.block_pool
        return {self._ours[bytes(key[:-4])] for key in pool.cached_block_hash_to_block._cache}

    def copies(self) -> int:
        """The most copies of one block."""
        pool = self._engine.engine_core.engine_core.scheduler.kv_cache_manager.block_pool
        held = pool.cached_block_hash_to_block._cache.values()
        return max((len(each) if isinstance(each, dict) else 1 for each in held), default=0)

    async def _run(self, call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def _endpoints(self) -> tuple[str, str]:
        return f"ipc://{self._sockets}/events", f"ipc://{self._sockets}/replay"

    def _build(self) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        events, replay = self._endpoints()
        arguments = EngineArgs(
            model=str(self._model),
            dtype="float32",
            enforce_eager=True,
            max_model_len=512,
            block_size=BLOCK,
            num_gpu_blocks_override=BLOCKS,
            kv_cache_memory_bytes=64 << 20,
            max_num_seqs=4,
            enable_prefix_caching=True,
            prefix_caching_hash_algo="sha256_cbor",
            kv_events_config={  # type: ignore[arg-type]
                "enable_kv_cache_events": True,
                "endpoint": events,
                "replay_endpoint": replay,
            },
        )
        self._engine = LLMEngine.from_engine_args(arguments, enable_multiprocessing=False)

    def _add(self, name: str, tokens: Sequence[int], new_tokens: int) -> None:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input

        sampling = SamplingParams(
            temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False
        )
        self._note(tokens)
        self._engine.add_request(name, tokens_input(list(tokens)), sampling)

    def _step(self) -> list[Any]:
        outputs: list[Any] = self._engine.step()
        for output in outputs:
            self._note([*output.prompt_token_ids, *output.outputs[0].token_ids])
        return outputs

    def _note(self, tokens: Sequence[int]) -> None:
        """Hash these tokens both ways: with vLLM's own function, and with ours."""
        from vllm.utils.hashing import sha256_cbor
        from vllm.v1.core.kv_cache_utils import hash_block_tokens

        parent: Any = None
        for place, value in enumerate(hashes(tokens)):
            block = tokens[place * BLOCK : (place + 1) * BLOCK]
            parent = hash_block_tokens(sha256_cbor, parent, block)
            self._ours[bytes(parent)] = value


def hashes(tokens: Sequence[int]) -> tuple[int, ...]:
    """The blocks of a prompt, as the tokenizer names them."""
    wire = array("I", tokens).tobytes()
    return tuple(read_hashes(block_hashes(wire, BLOCK, chain_root(MODEL))))


@pytest.fixture
def own_environment() -> Iterator[None]:
    """vLLM in this process writes LD_PRELOAD, which later tests' processes would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
async def engine(
    own_environment: None, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Caching]:
    from services.worker.vllm_process import set_environment

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    set_environment(os.environ, is_cpu=True)
    started = Caching(demo_model, tmp_path)
    await started.start()
    yield started
    await started.stop()


@asynccontextmanager
async def joined(engine: Caching, model: Path) -> AsyncIterator[Scheduler]:
    """The engine's worker in the fleet of a scheduler."""
    facts = EngineFacts(
        engine="vllm",
        block_size=BLOCK,
        capacity_blocks=BLOCKS - 1,
        max_running=4,
        step_budget_tokens=2048,
        max_model_tokens=512,
        vocabulary_size=49_152,
    )
    identity = Identity(worker_id="w", address="w:1", kind="generate", models=(MODEL,), facts=facts)
    metrics = Metrics(CollectorRegistry())
    port: Any = engine  # as much of the engine port as joining takes
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    joining = Joining(identity, facts, port, Worker(port, tokenizer, NoParsers(), metrics), metrics)
    welcomed = asyncio.Event()

    async def on_welcome() -> None:
        welcomed.set()

    async with running() as scheduler, asyncio.TaskGroup() as group:
        target = scheduler.channel._channel.target.decode()  # type: ignore[attr-defined]
        tasks = [
            group.create_task(joining.follow_cache()),
            group.create_task(joining.stay_joined(target, on_welcome)),
        ]
        await welcomed.wait()
        yield scheduler.service._desk.core
        for task in tasks:
            task.cancel()


class Asking:
    """Prompts that overlap: a stem, cut somewhere, with something of its own behind."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._stems = [self._tokens(300) for _ in range(3)]

    def prompts(self) -> Iterator[list[int]]:
        """One to four prompts to run at once; sometimes they are all the same."""
        count = self._chance.randrange(1, 5)
        if self._chance.random() < 0.4:
            yield from [self._prompt()] * count
        else:
            yield from (self._prompt() for _ in range(count))

    def _prompt(self) -> list[int]:
        stem = self._chance.choice(self._stems)
        cut = self._chance.randrange(1, 130)
        return stem[:cut] + self._tokens(self._chance.choice((0, 1, 31, 32, 40)))

    def _tokens(self, count: int) -> list[int]:
        return [self._chance.randrange(100, 40_000) for _ in range(count)]


class Witness:
    """Compares the scheduler's index with the engine's pool."""

    def __init__(self, engine: Caching, core: Scheduler) -> None:
        self._engine = engine
        self._core = core

    async def agrees(self) -> None:
        """Wait until what was sent has arrived; then both are equal, or the test fails."""
        wanted = self._engine.cached()
        try:
            async with asyncio.timeout(HEARD_S):
                while self.indexed() != wanted or self._blocks() != len(wanted):  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        except TimeoutError:
            assert self.indexed() == wanted
            assert self._blocks() == len(wanted)
            raise

    def indexed(self) -> set[int]:
        """Of all blocks that ever were, those that the scheduler takes the worker to cache."""
        return {each for each in set(self._engine._ours.values()) if self._depth((each,))}

    def predicted(self, tokens: Sequence[int]) -> int:
        """Tokens of a prompt that the scheduler would credit."""
        return min(self._depth(hashes(tokens)), (len(tokens) - 1) // BLOCK) * BLOCK

    def _depth(self, blocks: tuple[int, ...]) -> int:
        member = self._core.fleet.member("w")
        if member is None:  # between two epochs
            return 0
        return int(self._core.index.match(blocks, self._core.fleet.slots_in_use)[member.slot])

    def _blocks(self) -> int:
        member = self._core.fleet.member("w")
        return 0 if member is None else self._core.index.blocks_of(member.slot)


async def test_the_index_is_the_engines_cache_after_every_step(
    engine: Caching, demo_model: Path
) -> None:
    chance = Random(7)
    asking = Asking(chance)
    most_copies = evictions = hits = 0
    async with joined(engine, demo_model) as core:
        witness = Witness(engine, core)
        await witness.agrees()
        for number in range(ROUNDS):
            if number % 10 == 9:
                assert await engine.reset()
            prompts = list(asking.prompts())
            # Two requests of one step share what the first of them computes: only a lone one's
            # hits are known before.
            expected = witness.predicted(prompts[0]) if number % 10 != 9 else 0
            before, new_tokens = engine.cached(), chance.choice((1, 2, 14, 34))
            for place, tokens in enumerate(prompts):
                await engine.add(f"{number}-{place}", tokens, new_tokens)
            while engine.is_busy:
                for output in await engine.step():
                    if len(prompts) == 1:
                        assert output.num_cached_tokens == expected
                        hits += expected
                await witness.agrees()
                most_copies = max(most_copies, engine.copies())
                evictions += len(before - engine.cached())
                before = engine.cached()
    # Else it was no test.
    assert most_copies > 1
    assert evictions > ROUNDS
    assert hits
