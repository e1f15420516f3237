"""Blocks by their hashes: one numbered row each, in flat arrays made once for `limit` rows. Pure.

Row 0 stands for "no row".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.uint32]

FEW = 12
"""So many blocks are found one by one more quickly than all at once."""


class Rows:
    """A hash table with chains, 16 to 20 bytes a row."""

    def __init__(self, limit: int) -> None:
        buckets = 1 << (limit - 1).bit_length()
        self._limit = limit
        self._bucket_mask = buckets - 1
        self._all_heads, self._heads = column(buckets, np.uint32)
        self._all_keys, self._keys = column(limit + 1, np.uint64)
        self._all_chains, self._chain = column(limit + 1, np.uint32)
        self.last = 0
        """The highest row that was ever used."""
        self._free_row = 0
        self.full = limit == 0
        """Whether a row has to be freed before one can be added."""

    def key(self, row: int) -> int:
        """The hash of the row's block."""
        return self._keys[row]

    def find(self, block: int) -> int:
        """The row of a block, 0 when it has none."""
        row = self._heads[block & self._bucket_mask]
        while row and self._keys[row] != block:
            row = self._chain[row]
        return row

    def find_all(self, hashes: Sequence[int]) -> Column:
        """The rows of many blocks: all at once takes a third of the time of one by one."""
        if len(hashes) <= FEW:
            return np.fromiter(map(self.find, hashes), np.uint32, len(hashes))
        blocks = np.fromiter(hashes, np.uint64, len(hashes))
        rows: Column = self._all_heads[blocks & np.uint64(self._bucket_mask)]
        others = ((self._all_keys[rows] != blocks) & (rows != 0)).nonzero()[0]
        while len(others):
            further = self._all_chains[rows[others]]
            rows[others] = further
            others = others[(self._all_keys[further] != blocks[others]) & (further != 0)]
        return rows

    def add(self, block: int) -> int:
        """A row for a block that has none; there is room."""
        row = self._free_row
        if row:
            self._free_row = self._chain[row]
        else:
            self.last = row = self.last + 1
        self.full = not self._free_row and self.last == self._limit
        bucket = block & self._bucket_mask
        self._keys[row] = block
        self._chain[row] = self._heads[bucket]
        self._heads[bucket] = row
        return row

    def free(self, row: int) -> None:
        """Forget the row's block."""
        bucket = self._keys[row] & self._bucket_mask
        if self._heads[bucket] == row:
            self._heads[bucket] = self._chain[row]
        else:
            before = self._heads[bucket]
            while self._chain[before] != row:
                before = self._chain[before]
            self._chain[before] = self._chain[row]
        self._chain[row] = self._free_row
        self._free_row = row
        self.full = False


def column(count: int, kind: type[np.integer[Any]]) -> "tuple[npt.NDArray[Any], memoryview[int]]":
    """Zeros, to be read many at once or one by one; not written yet, they take no memory."""
    # A memoryview, because reading one element of a numpy array takes four times as long.
    zeros = np.zeros(count, kind)
    return zeros, memoryview(zeros)  # type: ignore[arg-type]  # numpy is a Buffer
