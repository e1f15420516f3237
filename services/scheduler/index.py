"""Which worker caches which block. Exact, from what the workers say. Pure.

Bounded by construction: `limit` rows in flat arrays, and with them bounded numbers of cells,
sets, copies and expected blocks; in all at most `BYTES_PER_BLOCK` times `limit`. What is full
makes room by the clock algorithm (hand.py): the block that came first goes first, unless it was
matched since the hand last passed it. What is forgotten here is only credited too little.

An end whose beginning was evicted is of no use, and beginnings are mostly older. So a match
spares its prompt's blocks only up to the gap: what follows one goes within a lap. Sparing
beginnings longer than ends was tried, and changed little (docs/benchmarks/index.md).

One hash may be stored several times on one worker, because engines keep equal blocks that
were computed at the same time; it is cached until as many were removed.

**Coarser**: with `every` = k the index keeps one block in k, those whose hash says so. Worker
and prompt need not agree on anything but the hashes: neither events nor snapshots have to tell
a block's position, and because hashes are chained the same prefix always has the same blocks
kept. A match then ends after the last kept block that a worker has, k - 1 blocks short in the
mean and never too long: who holds a block holds all before it, because engines drop a prefix
from its end (vLLM frees a request's blocks last first). An engine that drops a block alone may
be credited what follows it, unless that is a kept one: leave k at 1 for it. The simulated
engine does so when its cache is smaller than what it runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.scheduler.copies import Copies
from services.scheduler.expected import BLOCK_BYTES, Expected
from services.scheduler.expected import SET_OVERHEAD as EXPECTED_SET_OVERHEAD
from services.scheduler.hand import Hand
from services.scheduler.holders import SET_OVERHEAD, Holders
from services.scheduler.rows import Column, Rows

BYTES_PER_BLOCK = 100
"""All that the index takes, for each block of its limit; 12 MB more with 4,096 slots."""

AT_ONCE = 1024
"""So many blocks of a prompt are looked up together: most prompts end in blocks nobody has."""

FEW = 16
"""So many workers are written one by one more quickly than all at once."""

Depths = npt.NDArray[np.int64]


class PrefixIndex:
    """Block hash to workers; workers are named by their slots, 0 to `slots` - 1."""

    def __init__(self, limit: int, slots: int, every: int = 1) -> None:
        self._every = every
        self._rows = Rows(limit)  # 16 to 20 bytes a block, and 4 for the column of sets
        mask_bytes = (1 << slots).__sizeof__()
        sets = 24 * limit // (SET_OVERHEAD + mask_bytes)
        self._holders = Holders(limit, slots, 2 * limit, sets)
        expected_sets = 64 + 2 * limit // (EXPECTED_SET_OVERHEAD + mask_bytes)
        self._expected = Expected(24 * limit // BLOCK_BYTES, slots, expected_sets)
        self._hand = Hand(limit)
        self._blocks = [0] * slots
        self._copies = Copies(limit // 16 + 64, slots)

    def store(self, slot: int, hashes: Sequence[int]) -> None:
        """The worker stored a copy of each block."""
        bit, kept = 1 << slot, self._kept(hashes)
        holders, find = self._holders, self._rows.find
        for block in kept:
            if holders.full:
                self._make_room()
            if holders.add(find(block) or self._new_row(block), bit):
                self._blocks[slot] += 1
            else:
                self._copies.add(slot, block)
        self._expected.remove(slot, kept)

    def remove(self, slot: int, hashes: Sequence[int]) -> None:
        """The worker removed a copy of each block; blocks not known here are passed over."""
        bit, holders = 1 << slot, self._holders
        for block in self._kept(hashes):
            if holders.full:  # a smaller set may be a new one
                self._make_room()
            if self._copies.remove(slot, block):
                continue
            row = self._rows.find(block)
            # It is not there if it was forgotten already, because the index was full.
            if holders.discard(row, bit):
                self._blocks[slot] -= 1
                if not holders.any(row):
                    self._rows.free(row)

    def clear(self, slot: int) -> None:
        """Forget all that a worker holds, in one step however much it is."""
        self._holders.forget(1 << slot)
        self._blocks[slot] = 0
        self._copies.clear(slot)

    def drop(self, slot: int) -> None:
        """Forget all that a worker holds or is expected to: its epoch is over."""
        self.clear(slot)
        self._expected.forget(slot)

    def expect(self, slot: int, hashes: Sequence[int]) -> None:
        """The worker is about to compute these blocks: they count as cached until they are,
        or until they are not expected any more."""
        self._expected.add(slot, self._kept(hashes))

    def expect_no_more(self, slot: int, hashes: Sequence[int]) -> None:
        """The worker will not compute these blocks, or has."""
        self._expected.remove(slot, self._kept(hashes))

    def match(self, hashes: Sequence[int], slots: int) -> Depths:
        """For each of the first `slots` workers: the leading blocks of a prompt that it caches."""
        if self._every == 1:
            return self._depths(hashes, slots)
        kept = [place for place, block in enumerate(hashes) if self._keeps(block)]
        ends = np.array([0, *(place + 1 for place in kept)], np.int64)
        return ends[self._depths([hashes[place] for place in kept], slots)]

    def blocks_of(self, slot: int) -> int:
        """Distinct blocks that a worker is known to cache."""
        return self._blocks[slot]

    @property
    def blocks(self) -> int:
        """Distinct blocks that somebody caches."""
        return self._holders.held

    @property
    def entries(self) -> int:
        """Pairs of a block and a worker that caches it."""
        return sum(self._blocks)

    @property
    def expected_blocks(self) -> int:
        """Distinct blocks that are on their way."""
        return len(self._expected)

    def _keeps(self, block: int) -> bool:
        # By the hash's upper half, because the lower one chooses the bucket.
        return not (block >> 32) % self._every

    def _kept(self, hashes: Sequence[int]) -> Sequence[int]:
        return hashes if self._every == 1 else list(filter(self._keeps, hashes))

    def _depths(self, hashes: Sequence[int], slots: int) -> Depths:
        walk = _Walk(np.zeros(slots, np.int64))
        hashes = self._up_to_a_gap(hashes)
        if not hashes:
            return walk.depths
        for first in range(0, len(hashes), AT_ONCE):
            part = hashes[first : first + AT_ONCE]
            rows = self._rows.find_all(part)
            depth = self._walk(walk, part, rows, first)
            self._hand.spare(rows[:depth])
            if not walk.workers:
                return walk.depths
        walk.lose(0, len(hashes))
        return walk.depths

    def _up_to_a_gap(self, hashes: Sequence[int]) -> Sequence[int]:
        """As much of a prompt as may be cached: most end in blocks that nobody has."""
        if not hashes or not self._is_known(hashes[0]):
            return ()
        # The first gap is before any other, so where half is a gap the rest need not be seen.
        length = len(hashes)
        while length > 1 and not self._is_known(hashes[length // 2]):
            length //= 2
        return hashes[:length]

    def _is_known(self, block: int) -> bool:
        return bool(self._rows.find(block) or self._expected.of(block))

    def _walk(self, walk: "_Walk", part: Sequence[int], rows: Column, first: int) -> int:
        """Go along a part of a prompt, up to the gap if there is one."""
        for begin, end, holders in self._stretches(rows):
            if walk.workers & holders == walk.workers:
                continue
            before = -1
            for depth, expected in enumerate(self._expected.each(part[begin:end]), begin):
                if expected == before:
                    continue
                before = expected
                walk.lose(holders | expected, first + depth)
                # A gap ends the prefix: attention needs every earlier block.
                if not walk.workers:
                    return depth
                if not expected:
                    break  # who is left holds the whole stretch
        return len(part)

    def _stretches(self, rows: Column) -> Iterator[tuple[int, int, int]]:
        """Where the holders change along a prompt, and who they are from there on."""
        numbers = self._holders.numbers[rows]
        begin = 0
        for last in (numbers[1:] != numbers[:-1]).nonzero()[0].tolist():
            yield begin, last + 1, self._holders.named(numbers.item(last))
            begin = last + 1
        yield begin, len(rows), self._holders.named(numbers.item(begin))

    def _new_row(self, block: int) -> int:
        if self._rows.full:
            self._evict()
        row = self._rows.add(block)
        self._hand.spare_no_more(row)
        return row

    def _make_room(self) -> None:
        while self._holders.full:
            self._evict()

    def _evict(self) -> None:
        row = self._hand.next(self._rows.last)
        while not self._holders.any(row):
            row = self._hand.next(self._rows.last)  # that one is free already
        block = self._rows.key(row)
        mask = self._holders.of(row)
        while mask:
            slot = mask.bit_length() - 1
            mask ^= 1 << slot
            self._blocks[slot] -= 1
            self._copies.forget(slot, block)
        self._free(row)

    def _free(self, row: int) -> None:
        self._holders.empty(row)
        self._rows.free(row)


@dataclass(slots=True)
class _Walk:
    """Along a prompt: who has had every block until now, and how far the others came."""

    depths: Depths
    workers: int = -1

    def lose(self, but: int, depth: int) -> None:
        """All but these end here."""
        left = self.workers & but
        if left != self.workers:
            if depth:
                _write(self.depths, self.workers ^ left, depth)
            self.workers = left


def _write(depths: Depths, workers: int, depth: int) -> None:
    if workers.bit_count() > FEW:
        size = (len(depths) + 7) // 8
        bits = np.frombuffer(workers.to_bytes(size, "little"), np.uint8)
        depths[np.unpackbits(bits, count=len(depths), bitorder="little").view(np.bool_)] = depth
        return
    while workers:
        slot = workers.bit_length() - 1
        workers ^= 1 << slot
        depths[slot] = depth
