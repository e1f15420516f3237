"""Blocks that are on their way: placed requests will have them computed. Pure.

A placement brings about a hundred, and they go when it ends; mostly they are nobody else's. So
they are no rows of the index: one dictionary takes them and gives them back many at once.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat

BLOCK_BYTES = 120
"""What a block takes at most, in a dict that has just grown; its hash is its placement's."""

SET_OVERHEAD = 200
"""Bytes that a set of several workers takes beside its integer."""


class Expected:
    """Block to workers, one bit each. At most `limit` blocks, and `sets` different sets of
    several workers: what comes beyond that is not noted, and so credited too little."""

    def __init__(self, limit: int, slots: int, sets: int) -> None:
        self._limit = limit
        self._most_sets = sets
        self._bits = [1 << slot for slot in range(slots)]
        self._masks: dict[int, int] = {}
        self._sets: dict[int, tuple[int, int]] = {}
        """Of several workers: the one integer that all its blocks have, and their number."""
        self._pairs = [0] * slots
        self.of = self._masks.get
        """The workers of a block; None for none."""

    def __len__(self) -> int:
        return len(self._masks)

    def each(self, blocks: Sequence[int]) -> Iterator[int]:
        """The workers of one block after the other."""
        return map(self.of, blocks, repeat(0))

    def add(self, slot: int, blocks: Sequence[int]) -> None:
        """The worker will have these blocks."""
        bit, before = self._bits[slot], len(self._masks)
        blocks = blocks[: self._limit - before]
        masks = list(map(self._masks.setdefault, blocks, repeat(bit)))
        self._pairs[slot] += len(self._masks) - before
        if masks.count(bit) < len(masks):
            self._share(
                slot, [block for block, mask in zip(blocks, masks, strict=True) if mask != bit]
            )

    def remove(self, slot: int, blocks: Sequence[int]) -> None:
        """The worker will not have these blocks, or has them; others may be on their way there."""
        if not self._pairs[slot]:
            return
        bit = self._bits[slot]
        masks = list(map(self._masks.pop, blocks, repeat(0)))
        own = masks.count(bit)
        self._pairs[slot] -= own
        if own == len(masks):
            return
        for block, mask in zip(blocks, masks, strict=True):
            if mask and mask != bit:
                self._masks[block] = mask
                if mask & bit:
                    self._change(block, slot, -1)

    def forget(self, slot: int) -> None:
        """The worker will have nothing. Looks at all blocks, unless it had none."""
        if self._pairs[slot]:
            bit = self._bits[slot]
            self.remove(slot, [block for block, mask in self._masks.items() if mask & bit])

    def _share(self, slot: int, blocks: Sequence[int]) -> None:
        for block in blocks:
            has_room = len(self._sets) < self._most_sets
            if has_room and not self._masks[block] & self._bits[slot]:
                self._change(block, slot, 1)

    def _change(self, block: int, slot: int, by: int) -> None:
        old = self._masks[block]
        self._masks[block] = self._take(old ^ self._bits[slot])
        self._give_back(old)
        self._pairs[slot] += by

    def _take(self, mask: int) -> int:
        if mask.bit_count() == 1:
            return self._bits[mask.bit_length() - 1]
        mask, users = self._sets.get(mask, (mask, 0))
        self._sets[mask] = (mask, users + 1)
        return mask

    def _give_back(self, mask: int) -> None:
        if mask.bit_count() > 1:
            _, users = self._sets.pop(mask)
            if users > 1:
                self._sets[mask] = (mask, users - 1)
