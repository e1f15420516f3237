"""Which row goes first when there is no room: the clock algorithm, an LRU without a list. Pure.

A hand goes round the rows. It takes the first that is not spared; those that it passes are
spared no more.
"""

import numpy as np

from services.scheduler.rows import Column, column

WINDOW = 1024
"""Rows that the hand passes together: even a whole lap takes a millisecond or two."""


class Hand:
    """A byte a row."""

    def __init__(self, limit: int) -> None:
        self._all_spared, self._spared = column(limit + 1, np.uint8)
        self._at = 1

    def spare(self, rows: Column) -> None:
        """These rows were of use."""
        self._all_spared[rows] = True

    def spare_no_more(self, row: int) -> None:
        """The row is another block's now."""
        self._spared[row] = False

    def next(self, last: int) -> int:
        """The row to take; `last` is the highest there is."""
        while self._spared[self._at]:
            passed = self._all_spared[self._at : min(self._at + WINDOW, last + 1)]
            count = int(passed.argmin()) or len(passed)  # up to the first zero, if there is one
            passed[:count] = False
            self._at = (self._at + count - 1) % last + 1
        row = self._at
        self._at = row % last + 1
        return row
