"""Sets of workers, each kept once however many blocks it holds. Pure.

The blocks of one prefix are mostly held by the same workers, so there are far fewer sets than
blocks. A set is an integer with one bit for each worker's slot.
"""

EMPTY = 0
"""The id of the set without workers."""


class HolderSets:
    """Interned sets, counted by the blocks that refer to them."""

    def __init__(self) -> None:
        self.masks = [0]
        self._blocks = [1]  # the empty set is never given back
        self._ids = {0: EMPTY}
        self._free: list[int] = []

    def take(self, mask: int) -> int:
        """The id of the set, for one more block."""
        number = self._ids.get(mask)
        if number is None:
            number = self._new(mask)
        self._blocks[number] += 1
        return number

    def give_back(self, number: int) -> None:
        """One block refers to the set no more."""
        self._blocks[number] -= 1
        if self._blocks[number]:
            return
        mask = self.masks[number]
        if self._ids.get(mask) == number:
            del self._ids[mask]
        self.masks[number] = 0
        self._free.append(number)

    def forget(self, bit: int) -> None:
        """Take a worker out of all sets: no block is touched, however many it held."""
        for number, mask in enumerate(self.masks):
            if mask & bit:
                if self._ids.get(mask) == number:
                    del self._ids[mask]
                self.masks[number] = mask & ~bit
                # Two sets may have become equal: both stay, the older takes new blocks.
                self._ids.setdefault(mask & ~bit, number)

    def hollow_blocks(self) -> int:
        """Blocks whose holders were all forgotten."""
        return (
            sum(blocks for blocks, mask in zip(self._blocks, self.masks, strict=True) if not mask)
            - 1
        )

    def __len__(self) -> int:
        return len(self.masks) - len(self._free)

    def _new(self, mask: int) -> int:
        if self._free:
            number = self._free.pop()
            self.masks[number] = mask
        else:
            number = len(self.masks)
            self.masks.append(mask)
            self._blocks.append(0)
        self._ids[mask] = number
        return number
