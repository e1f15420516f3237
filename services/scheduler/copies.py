"""Blocks that a worker stored more than once. Pure."""


class Copies:
    """Copies beside the first, for at most `limit` pairs of a block and a worker."""

    def __init__(self, limit: int, slots: int) -> None:
        self._limit = limit
        self._slots = slots
        self._counts: dict[int, int] = {}

    def add(self, slot: int, block: int) -> None:
        """One more copy. Beyond the bound it is not counted: its block is forgotten too early."""
        pair = block * self._slots + slot
        if pair in self._counts or len(self._counts) < self._limit:
            self._counts[pair] = self._counts.get(pair, 0) + 1

    def remove(self, slot: int, block: int) -> bool:
        """One copy less. False when there is none beside the first."""
        if not self._counts:
            return False
        pair = block * self._slots + slot
        left = self._counts.pop(pair, 0) - 1
        if left > 0:
            self._counts[pair] = left
        return left >= 0

    def forget(self, slot: int, block: int) -> None:
        """The worker is not known to hold the block at all."""
        self._counts.pop(block * self._slots + slot, None)

    def clear(self, slot: int) -> None:
        """The worker holds nothing."""
        for pair in [pair for pair in self._counts if pair % self._slots == slot]:
            del self._counts[pair]
