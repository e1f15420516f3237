"""The prefix index under 50 million entries: memory, and time of each call.

`python -m bench.index [--entries N] [--only NAME]`; each case runs in a process of its own.
"""

import argparse
import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt

from services.scheduler.fleet import SLOTS
from services.scheduler.index import PrefixIndex

WORKERS = 1000
BATCH = 64
"""Blocks of one event."""

HEADINGS = (
    "stored, millions",
    "entries",
    "blocks",
    "RSS, MB",
    "of it the index, MB",
    "bytes an entry by RSS",
    "bytes an entry, counted",
)

Hashes = npt.NDArray[np.uint64]
Source = Callable[[], Hashes]


@dataclass(frozen=True, slots=True)
class Case:
    """How holders come about. `kept` batches stay on each worker; the oldest goes."""

    what: str
    make: Callable[[np.random.Generator], Source]
    kept: int
    limit: int = 1_000_000


@dataclass(slots=True)
class Clock:
    """CPU seconds in calls of one kind, and how many blocks they had."""

    seconds: float = 0.0
    blocks: int = 0

    def time(self, call: Callable[..., Any], *arguments: Any, blocks: int = BATCH) -> None:
        """Make the call."""
        started = process_time()
        call(*arguments)
        self.seconds += process_time() - started
        self.blocks += blocks

    @property
    def us(self) -> float:
        """Microseconds a block."""
        return self.seconds / self.blocks * 1e6 if self.blocks else 0.0


@dataclass(slots=True)
class Times:
    """One clock for each kind of call."""

    store: Clock = field(default_factory=Clock)
    remove: Clock = field(default_factory=Clock)
    match: Clock = field(default_factory=Clock)
    drop: Clock = field(default_factory=Clock)


def one_holder_each(rng: np.random.Generator) -> Source:
    """Conversations: blocks that nobody else has."""
    return lambda: _hashes(rng, BATCH)


def shared_prefixes(rng: np.random.Generator) -> Source:
    """2,000 prefixes that workers take up again and again; each is replaced in time."""
    prefixes = _hashes(rng, (2000, BATCH))

    def batch() -> Hashes:
        which = int(rng.integers(len(prefixes)))
        if rng.random() < 0.01:
            prefixes[which] = _hashes(rng, BATCH)
        taken: Hashes = prefixes[which].copy()
        return taken

    return batch


def random_pairs(rng: np.random.Generator) -> Source:
    """The worst: any of 300,000 blocks on any worker, no two with the same holders."""
    blocks = _hashes(rng, 300_000)

    def batch() -> Hashes:
        which = rng.integers(len(blocks), size=BATCH)
        if rng.random() < 0.1:
            blocks[which] = _hashes(rng, BATCH)
        taken: Hashes = blocks[which]
        return taken

    return batch


CASES = {
    "one-holder": Case("one holder each", one_holder_each, 24),
    "shared": Case("shared prefixes", shared_prefixes, 40),
    "random": Case("random pairs", random_pairs, 16),
}


class Soak:
    """A fleet whose workers store batches and remove their oldest."""

    def __init__(self, case: Case, seed: int) -> None:
        self._chance = Random(seed)
        self._source = case.make(np.random.default_rng(seed))
        # Made and touched before the index, so that the index is all that grows.
        self._kept = np.full((WORKERS, case.kept, BATCH), 1, np.uint64)
        self._count = np.zeros(WORKERS, np.int64)
        self.times = Times()
        self.before = rss()
        self.index = PrefixIndex(case.limit, SLOTS)

    def run(self, entries: int) -> None:
        """Store so many; print ten lines on the way."""
        for step in range(entries // BATCH):
            self._step()
            if (step + 1) % (entries // BATCH // 10) == 0:
                print(self._progress((step + 1) * BATCH), flush=True)

    def end(self) -> None:
        """All workers go."""
        for slot in range(WORKERS):
            self.times.drop.time(self.index.drop, slot, blocks=1)

    def _step(self) -> None:
        slot = self._chance.randrange(WORKERS)
        place = self._count[slot] % self._kept.shape[1]
        if self._count[slot] >= self._kept.shape[1]:
            oldest = self._kept[slot, place].tolist()
            self.times.remove.time(self.index.remove, slot, oldest)
        self._kept[slot, place] = self._source()
        self._count[slot] += 1
        newest = self._kept[slot, place].tolist()
        self.times.store.time(self.index.store, slot, newest)
        if self._chance.random() < 0.1:
            other = self._kept[self._chance.randrange(WORKERS), place].tolist()
            self.times.match.time(self.index.match, other, WORKERS)

    def _progress(self, stored: int) -> str:
        index, grown, taken = self.index, rss() - self.before, deep_bytes(self.index)
        return (
            f"| {stored / 1e6:.0f} | {index.entries:,} | {index.blocks:,} | {rss() / 1e6:.1f} "
            f"| {grown / 1e6:.1f} | {grown / index.entries:.1f} | {taken / index.entries:.1f} |"
        )


def main() -> int:
    """Run one case here, or each in a process of its own."""
    arguments = _arguments()
    if arguments.only == "match":
        time_match(arguments.seed)
    elif arguments.only:
        soak(CASES[arguments.only], arguments.entries, arguments.seed)
    else:
        for name in ("match", *CASES):
            again = [sys.executable, "-m", "bench.index", "--only", name]
            options = ["--entries", str(arguments.entries), "--seed", str(arguments.seed)]
            subprocess.run([*again, *options], check=True)
    return 0


def soak(case: Case, entries: int, seed: int) -> None:
    """Print how memory goes, as rows of markdown, and what each call cost."""
    print(f"\n### {case.what}: at most {case.limit:,} blocks, {case.kept * BATCH:,} a worker\n")
    run = Soak(case, seed)
    print(f"| {' | '.join(HEADINGS)} |\n|{' ---: |' * len(HEADINGS)}")
    run.run(entries)
    run.end()
    times = run.times
    print(
        f"\nBefore {run.before / 1e6:.1f} MB, after all workers went {rss() / 1e6:.1f} MB. "
        f"CPU a block: store {times.store.us:.2f} µs, remove {times.remove.us:.2f} µs, "
        f"match {times.match.us:.2f} µs; a worker that goes: {times.drop.us:.0f} µs.",
        flush=True,
    )


def time_match(seed: int) -> None:
    """Prompts of 256 blocks in a full index: the quickest of five rounds over 600 prompts."""
    print("| workers | holders of each prompt | one block in | match, µs |")
    print("| ---: | ---: | ---: | ---: |")
    for workers, holders, every in ((8, 1, 1), (8, 3, 1), (1000, 1, 1), (1000, 3, 1), (1000, 3, 4)):
        index, prompts = _warm(workers, holders, every, Random(seed))
        best_s = min(_round(index, prompts, workers) for _ in range(5))
        print(f"| {workers:,} | {holders} | {every} | {best_s * 1e6:.1f} |", flush=True)


def _warm(
    workers: int, holders: int, every: int, chance: Random
) -> tuple[PrefixIndex, list[list[int]]]:
    """A quarter of each prompt is everybody's; of the rest each holder has a part."""
    index = PrefixIndex(1_000_000, SLOTS, every)
    shared = [chance.getrandbits(64) for _ in range(64)]
    for slot in range(workers):
        index.store(slot, shared)
    prompts = [[*shared, *(chance.getrandbits(64) for _ in range(192))] for _ in range(5000)]
    for prompt in prompts:
        for slot in chance.sample(range(workers), holders):
            index.store(slot, prompt[64 : chance.randint(128, 256)])
    return index, chance.sample(prompts, 600)


def _round(index: PrefixIndex, prompts: list[list[int]], workers: int) -> float:
    clock = Clock()
    for prompt in prompts:
        clock.time(index.match, prompt, workers, blocks=1)
    return clock.seconds / clock.blocks


def rss() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def deep_bytes(thing: object) -> int:
    """Bytes of all that an object holds; arrays count whole, whether touched or not."""
    if isinstance(thing, np.ndarray):
        return int(thing.nbytes)
    if isinstance(thing, dict | list):
        return sys.getsizeof(thing) + sum(map(sys.getsizeof, thing))
    if isinstance(thing, int | array | memoryview):
        return sys.getsizeof(thing)  # a memoryview shows an array that was counted
    return sum(map(deep_bytes, vars(thing).values()))


def _hashes(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Hashes:
    return rng.integers(0, 2**64, shape, np.uint64)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.index", description=__doc__)
    parser.add_argument("--entries", type=int, default=50_000_000, help="stored in each case")
    parser.add_argument("--only", choices=["match", *CASES], help="one case, in this process")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
