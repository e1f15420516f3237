"""Which worker caches which block. Exact, from what the workers say. Pure.

Kept to its bound by construction: a hash table in flat arrays, made once for `limit` blocks,
about 25 bytes a block. When it is full, the block that came first goes first, unless it was
matched since the hand last passed it (the clock algorithm, an LRU without a list).

One hash may be stored several times on one worker, because engines keep equal blocks that
were computed at the same time; it is cached until as many were removed.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.scheduler.holders import EMPTY, HolderSets

SECOND_CHANCES = 64
"""Blocks that the hand passes over before it takes one regardless: bounds the time of a store."""

FEW = 16
"""So many workers are written one by one more quickly than all at once."""

Depths = npt.NDArray[np.int64]


class PrefixIndex:
    """Block hash to workers; workers are named by their slots, 0 to `slots` - 1."""

    def __init__(self, limit: int, slots: int) -> None:
        buckets = 1 << (limit - 1).bit_length()
        self._limit = limit
        self._bucket_mask = buckets - 1
        self._heads = _column(buckets, np.uint32)
        self._keys = _column(limit + 1, np.uint64)
        self._chain = _column(limit + 1, np.uint32)
        self._sets = _column(limit + 1, np.uint32)
        self._matched = bytearray(limit + 1)
        self._holders = HolderSets()
        # Row 0 stands for "no row": it ends chains, and its set is the empty one.
        self._fresh_row = 1
        self._free_row = 0
        self._free_rows = 0
        self._hand = 1
        self._blocks = [0] * slots
        self._copies: list[dict[int, int]] = [{} for _ in range(slots)]
        self._expected: dict[int, int] = {}

    def store(self, slot: int, hashes: Iterable[int]) -> None:
        """The worker stored a copy of each block."""
        bit = 1 << slot
        for block in hashes:
            self._expect_no_more(block, bit)
            row = self._row(block) or self._new_row(block)
            mask = self._holders.masks[self._sets[row]]
            if mask & bit:
                self._copies[slot][block] = self._copies[slot].get(block, 0) + 1
            else:
                self._hold(row, mask | bit)
                self._blocks[slot] += 1

    def remove(self, slot: int, hashes: Iterable[int]) -> None:
        """The worker removed a copy of each block; blocks not known here are passed over."""
        bit = 1 << slot
        copies = self._copies[slot]
        for block in hashes:
            row = self._row(block)
            mask = self._holders.masks[self._sets[row]]
            if not mask & bit:
                continue  # forgotten here already, because the index was full
            if block in copies:
                self._remove_copy(copies, block)
                continue
            self._blocks[slot] -= 1
            if mask == bit:
                self._free(row)
            else:
                self._hold(row, mask & ~bit)

    def clear(self, slot: int) -> None:
        """Forget all that a worker holds, in one step however much it is."""
        self._holders.forget(1 << slot)
        self._blocks[slot] = 0
        self._copies[slot] = {}

    def drop(self, slot: int) -> None:
        """Forget all that a worker holds or is expected to: its epoch is over."""
        bit = 1 << slot
        self.clear(slot)
        self.expect_no_more(slot, [block for block, mask in self._expected.items() if mask & bit])

    def expect(self, slot: int, hashes: Iterable[int]) -> None:
        """The worker is about to compute these blocks: they count as cached until they are,
        or until they are not expected any more."""
        bit = 1 << slot
        for block in hashes:
            self._expected[block] = self._expected.get(block, 0) | bit

    def expect_no_more(self, slot: int, hashes: Iterable[int]) -> None:
        """The worker will not compute these blocks, or has."""
        for block in hashes:
            self._expect_no_more(block, 1 << slot)

    def match(self, hashes: Sequence[int], slots: int) -> Depths:
        """For each of the first `slots` workers: the leading blocks of a prompt that it caches."""
        depths = np.zeros(slots, np.int64)
        held = -1
        for depth, mask in enumerate(self._masks(hashes)):
            if held & mask != held:
                if depth:
                    _write(depths, held & ~mask, depth)
                held &= mask
                # A gap ends the prefix: attention needs every earlier block.
                if not held:
                    return depths
        if hashes:
            _write(depths, held, len(hashes))
        return depths

    def blocks_of(self, slot: int) -> int:
        """Distinct blocks that a worker is known to cache."""
        return self._blocks[slot]

    @property
    def blocks(self) -> int:
        """Distinct blocks that somebody caches."""
        return self._fresh_row - 1 - self._free_rows - self._holders.hollow_blocks()

    @property
    def entries(self) -> int:
        """Pairs of a block and a worker that caches it."""
        return sum(self._blocks)

    @property
    def expected_blocks(self) -> int:
        """Distinct blocks that are on their way."""
        return len(self._expected)

    def _masks(self, hashes: Sequence[int]) -> Iterator[int]:
        heads, keys, chain, sets = self._heads, self._keys, self._chain, self._sets
        masks, expected, matched = self._holders.masks, self._expected, self._matched
        bucket_mask = self._bucket_mask
        for block in hashes:
            row = heads[block & bucket_mask]
            while row and keys[row] != block:
                row = chain[row]
            matched[row] = 1
            mask = masks[sets[row]]
            yield mask | expected[block] if block in expected else mask

    def _row(self, block: int) -> int:
        row = self._heads[block & self._bucket_mask]
        while row and self._keys[row] != block:
            row = self._chain[row]
        return row

    def _new_row(self, block: int) -> int:
        row = self._unused_row()
        bucket = block & self._bucket_mask
        self._keys[row] = block
        self._chain[row] = self._heads[bucket]
        self._heads[bucket] = row
        self._sets[row] = self._holders.take(0)
        self._matched[row] = 0
        return row

    def _unused_row(self) -> int:
        if not self._free_row and self._fresh_row > self._limit:
            self._evict()
        if self._free_row:
            row = self._free_row
            self._free_row = self._chain[row]
            self._free_rows -= 1
        else:
            row = self._fresh_row
            self._fresh_row += 1
        return row

    def _hold(self, row: int, mask: int) -> None:
        old = self._sets[row]
        self._sets[row] = self._holders.take(mask)
        self._holders.give_back(old)

    def _free(self, row: int) -> None:
        bucket = self._keys[row] & self._bucket_mask
        if self._heads[bucket] == row:
            self._heads[bucket] = self._chain[row]
        else:
            before = self._heads[bucket]
            while self._chain[before] != row:
                before = self._chain[before]
            self._chain[before] = self._chain[row]
        self._holders.give_back(self._sets[row])
        self._sets[row] = EMPTY
        self._chain[row] = self._free_row
        self._free_row = row
        self._free_rows += 1

    def _evict(self) -> None:
        row = self._next_victim()
        block = self._keys[row]
        mask = self._holders.masks[self._sets[row]]
        while mask:
            slot = mask.bit_length() - 1
            mask ^= 1 << slot
            self._blocks[slot] -= 1
            self._copies[slot].pop(block, None)
        self._free(row)

    def _next_victim(self) -> int:
        for _ in range(SECOND_CHANCES):
            row = self._hand
            self._hand = row % self._limit + 1
            if not self._matched[row] or not self._holders.masks[self._sets[row]]:
                return row
            self._matched[row] = 0
        return row

    def _expect_no_more(self, block: int, bit: int) -> None:
        mask = self._expected.get(block, 0)
        if mask == bit:
            del self._expected[block]
        elif mask & bit:
            self._expected[block] = mask & ~bit

    @staticmethod
    def _remove_copy(copies: dict[int, int], block: int) -> None:
        copies[block] -= 1
        if not copies[block]:
            del copies[block]


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


def _column(count: int, kind: type[np.unsignedinteger[Any]]) -> "memoryview[int]":
    # Zeros that are not written yet take no memory. A memoryview, because reading one element
    # of a numpy array takes four times as long.
    return memoryview(np.zeros(count, kind))  # type: ignore[arg-type]  # numpy is a Buffer
