"""For each row, a set of workers, in few bytes whoever they are. Pure.

The blocks of one prefix are mostly held by the same workers, so there are far fewer sets than
blocks: a set is kept once, as an integer with one bit for each worker's slot, and rows refer to
it by a number. Where workers hold blocks by chance there are as many sets as blocks. So beyond
a number of sets a small one is spelled out, a cell of 8 bytes for each worker; only large sets
are then still kept once, and those take few bytes for each of their many workers.
"""

from array import array

import numpy as np

from services.scheduler.rows import column

EMPTY = 0
"""The number of the set without workers."""

FEW = 12
"""The most workers in a set that is spelled out."""

SET_OVERHEAD = 150
"""Bytes that a kept set takes beside its integer: in a dict when that has just grown, in lists."""

_SPELLED = 1 << 31
"""Numbers from here on are those of a first cell."""


class Holders:
    """A column of sets. At most `cells` cells and, beyond the slots' own, `sets` kept sets; it
    has to be given room when it says that it is full."""

    def __init__(self, rows: int, slots: int, cells: int, sets: int) -> None:
        self.numbers, self._numbers = column(rows + 1, np.uint32)
        self._masks = [0]
        self._users = array("I", [0])  # rows and cells; those of the empty set are not counted
        self._ids = {0: EMPTY}
        self._free_sets: list[int] = []
        self._most_small_sets = slots + sets // 2
        self._most_sets = 2 * slots + sets
        # Cell 0 ends every list.
        self._all_members, self._members = column(cells + 2 * FEW + 1, np.uint32)
        self._all_nexts, self._nexts = column(cells + 2 * FEW + 1, np.uint32)
        self._fresh_cell = 1
        self._free_cell = 0
        self._cells_left = cells + 2 * FEW
        self.full = False
        """Whether rows have to be emptied before the next `put`."""
        self._held = 0
        self._held_is_known = True

    @property
    def held(self) -> int:
        """Rows whose set is not empty."""
        if not self._held_is_known:
            self._held, self._held_is_known = self._count(), True
        return self._held

    def any(self, row: int) -> bool:
        """Whether the row has a set; its workers may all have been forgotten."""
        return self._numbers[row] != EMPTY

    def of(self, row: int) -> int:
        """The workers of a row, one bit each."""
        number = self._numbers[row]
        return self._masks[number] if number < _SPELLED else self._spelled(number)

    def named(self, number: int) -> int:
        """The workers of the set with this number."""
        return self._masks[number] if number < _SPELLED else self._spelled(number)

    def add(self, row: int, bit: int) -> bool:
        """Add a worker to the row. False when it is there already."""
        old = self._numbers[row]
        mask = self._masks[old] if old < _SPELLED else self._spelled(old)
        if mask & bit:
            return False
        self._held += not mask
        self._numbers[row] = self._take(mask | bit)
        if old:
            self._give_back(old)
        return True

    def discard(self, row: int, bit: int) -> bool:
        """Take a worker out of the row. False when it is not there."""
        old = self._numbers[row]
        mask = self._masks[old] if old < _SPELLED else self._spelled(old)
        if not mask & bit:
            return False
        self._held -= mask == bit
        self._numbers[row] = self._take(mask ^ bit)
        self._give_back(old)
        return True

    def empty(self, row: int) -> None:
        """Take all workers out of the row."""
        self._held -= self.of(row) != 0
        self._give_back(self._numbers[row])
        self._numbers[row] = EMPTY

    def forget(self, bit: int) -> None:
        """Take a worker out of all sets: no row is touched, however many it had."""
        self._held_is_known = False
        for number, mask in enumerate(self._masks):
            if mask & bit:
                if self._ids.get(mask) == number:
                    del self._ids[mask]
                self._masks[number] = mask & ~bit
                # Two sets may have become equal: both stay, the older takes new rows.
                self._ids.setdefault(mask & ~bit, number)

    def _take(self, mask: int) -> int:
        number = self._ids.get(mask)
        if number is None:
            small = 1 < mask.bit_count() <= FEW
            if small and self._sets() >= self._most_small_sets:
                return self._spell(mask)
            number = self._keep(mask)
        if number:
            self._users[number] += 1
        return number

    def _sets(self) -> int:
        return len(self._masks) - len(self._free_sets)

    def _see_room(self) -> None:
        self.full = self._cells_left < FEW or self._sets() > self._most_sets

    def _spelled(self, number: int) -> int:
        mask, cell = 0, number - _SPELLED
        while cell:
            mask |= self._masks[self._members[cell]]
            cell = self._nexts[cell]
        return mask

    def _keep(self, mask: int) -> int:
        if self._free_sets:
            number = self._free_sets.pop()
            self._masks[number] = mask
        else:
            number = len(self._masks)
            self._masks.append(mask)
            self._users.append(0)
        self._ids[mask] = number
        self._see_room()
        return number

    def _spell(self, mask: int) -> int:
        first = 0
        while mask:
            bit = mask & -mask
            mask ^= bit
            cell = self._unused_cell()
            self._members[cell] = self._take(bit)
            self._nexts[cell] = first
            first = cell
        self._see_room()
        return _SPELLED + first

    def _unused_cell(self) -> int:
        self._cells_left -= 1
        cell = self._free_cell
        if cell:
            self._free_cell = self._nexts[cell]
            return cell
        self._fresh_cell += 1
        return self._fresh_cell - 1

    def _give_back(self, number: int) -> None:
        if number >= _SPELLED:
            self._give_back_spelled(number)
        elif number:
            self._users[number] -= 1
            if not self._users[number]:
                self._free(number)

    def _give_back_spelled(self, number: int) -> None:
        cell = number - _SPELLED
        while cell:
            self._give_back(self._members[cell])
            following = self._nexts[cell]
            self._nexts[cell] = self._free_cell
            self._free_cell = cell
            self._cells_left += 1
            cell = following
        self._see_room()

    def _free(self, number: int) -> None:
        mask = self._masks[number]
        if self._ids.get(mask) == number:
            del self._ids[mask]
        self._masks[number] = 0
        self._free_sets.append(number)
        self._see_room()

    def _count(self) -> int:
        alive = np.fromiter((mask != 0 for mask in self._masks), np.bool_, len(self._masks))
        spelled = self.numbers >= _SPELLED
        held = int(np.count_nonzero(alive[self.numbers[~spelled]]))
        cells = self.numbers[spelled] - np.uint32(_SPELLED)
        any_alive = np.zeros(len(cells), np.bool_)
        while cells.any():
            any_alive |= alive[self._all_members[cells]]
            cells = self._all_nexts[cells]
        return held + int(np.count_nonzero(any_alive))
