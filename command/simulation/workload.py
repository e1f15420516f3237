"""What a simulated fleet is asked: from a trace, or made up. Pure.

A prompt is its length and the ids of its blocks; equal leading ids are an equal prefix.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from struct import pack
from typing import Any, Protocol

from xxhash import xxh3_64_intdigest

BLOCK_TOKENS = 512
"""One id of a Mooncake trace stands for so many tokens."""
GROUPS = 64
TENANTS = 4
SYSTEM_BLOCKS = 12
BURST = 256
BURSTS_APART_S = 60.0
TURNS = 6
THINKING_S = 20.0


class Chance(Protocol):
    """As much of `random.Random` as is needed."""

    def randrange(self, start: int, stop: int, /) -> int:
        """Any of `start` to `stop` - 1."""

    def expovariate(self, lambd: float) -> float:
        """The time to the next of random events."""

    def paretovariate(self, alpha: float) -> float:
        """A number from 1 on; few are large."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request, before it is anybody's."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    """Hashes of the prompt's full blocks."""
    tenant: str = ""
    priority: int = 0
    max_tokens: int = 0
    """The caller's bound on the answer; 0 where it is not known."""


class BadTrace(ValueError):
    """A trace cannot be read. The text is one line."""


def read_trace(lines: Iterable[str], most: int | None = None) -> list[Job]:
    """The first jobs of a trace in Mooncake's format, by arrival. Raises BadTrace."""
    jobs: list[Job] = []
    for number, line in enumerate(lines, 1):
        if most is not None and len(jobs) >= most:
            break
        if line.strip():
            jobs.append(_job(number, line))
    if not jobs:
        raise BadTrace("the trace has no requests")
    return sorted(jobs, key=lambda job: job.arrival_s)


def made_up(kind: str, jobs: int, chance: Chance) -> list[Job]:
    """A synthetic workload, by arrival."""
    return sorted(KINDS[kind](jobs, chance), key=lambda job: job.arrival_s)[:jobs]


def faster(jobs: Sequence[Job], factor: float) -> list[Job]:
    """The same jobs, arriving `factor` times as fast."""
    return [replace(job, arrival_s=job.arrival_s / factor) for job in jobs]


def arrivals_per_s(jobs: Sequence[Job]) -> float:
    """How fast jobs arrive; infinite when they come all at once."""
    span_s = jobs[-1].arrival_s - jobs[0].arrival_s
    return len(jobs) / span_s if span_s else float("inf")


def _job(number: int, line: str) -> Job:
    try:
        fields = json.loads(line)
        return _read(fields)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BadTrace(f"line {number} is not of a Mooncake trace: {why}") from error


def _read(fields: dict[str, Any]) -> Job:
    tokens, ids = int(fields["input_length"]), fields["hash_ids"]
    full = tokens // BLOCK_TOKENS
    arrival_s = float(fields["timestamp"]) / 1e3
    ids = [int(block) for block in ids[:full]]
    if min(ids, default=0) < 0 or max(ids, default=0) >= 1 << 63:
        raise ValueError("an id of hash_ids is out of range")
    if tokens < 1 or not 0 <= arrival_s < float("inf") or len(ids) < full:
        raise ValueError("lengths, time and hash_ids do not fit together")
    output = max(1, int(fields["output_length"]))
    tenant = str(fields.get("tenant", ""))
    return Job(arrival_s, tokens, output, tuple(map(_hash, ids)), tenant)


def _shared(jobs: int, chance: Chance) -> Iterator[Job]:
    """System prompts, few of them popular, and a question of one's own."""
    fresh = count(GROUPS * SYSTEM_BLOCKS)
    for arrival_s in _arrivals(jobs, chance):
        group = int(chance.paretovariate(0.7)) % GROUPS
        system = range(group * SYSTEM_BLOCKS, (group + 1) * SYSTEM_BLOCKS)
        blocks = [*system, *_next(fresh, chance.randrange(1, 5))]
        yield _made(arrival_s, blocks, chance, f"tenant-{group % TENANTS}")


def _unique(jobs: int, chance: Chance) -> Iterator[Job]:
    """Nothing in common."""
    fresh = count()
    for arrival_s in _arrivals(jobs, chance):
        yield _made(arrival_s, _next(fresh, chance.randrange(2, 32)), chance)


def _chat(jobs: int, chance: Chance) -> Iterator[Job]:
    """Conversations: each turn repeats all before it."""
    fresh = count()
    for number, start_s in enumerate(_arrivals(-(-jobs // TURNS), chance)):
        now_s, blocks = start_s * TURNS, _next(fresh, SYSTEM_BLOCKS // 2)
        for _ in range(TURNS):
            blocks = [*blocks, *_next(fresh, chance.randrange(1, 5))]
            yield _made(now_s, blocks, chance, f"tenant-{number % TENANTS}")
            now_s += chance.expovariate(1 / THINKING_S)


def _burst(jobs: int, chance: Chance) -> Iterator[Job]:
    """Many equal prompts at one instant, again and again."""
    fresh = count()
    blocks: list[int] = []
    for number in range(jobs):
        if number % BURST == 0:
            blocks = _next(fresh, SYSTEM_BLOCKS)
        yield _made(number // BURST * BURSTS_APART_S, blocks, chance)


KINDS: dict[str, Callable[[int, Chance], Iterator[Job]]] = {
    "shared": _shared,
    "unique": _unique,
    "chat": _chat,
    "burst": _burst,
}


def _arrivals(jobs: int, chance: Chance) -> Iterator[float]:
    """One a second, at random."""
    now_s = 0.0
    for _ in range(jobs):
        yield now_s
        now_s += chance.expovariate(1.0)


def _made(arrival_s: float, blocks: Sequence[int], chance: Chance, tenant: str = "") -> Job:
    rest, output = chance.randrange(1, BLOCK_TOKENS), chance.randrange(16, 512)
    tokens = len(blocks) * BLOCK_TOKENS + rest
    return Job(arrival_s, tokens, output, tuple(map(_hash, blocks)), tenant)


def _next(fresh: "count[int]", blocks: int) -> list[int]:
    return [next(fresh) for _ in range(blocks)]


def _hash(block: int) -> int:
    # Ids in a row would meet the index's hash table and `prefix_hash` as no real hash does.
    return xxh3_64_intdigest(pack("<Q", block))
