"""Sets of workers: kept once or spelled out, they are the same sets."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.holders import FEW, Holders

ROWS, SLOTS = 4, 12
ROW = st.integers(1, ROWS)
SLOT = st.integers(0, SLOTS - 1)


def of(holders: Holders, row: int) -> set[int]:
    mask = holders.of(row)
    return {slot for slot in range(SLOTS) if mask >> slot & 1}


class SpelledOut(RuleBasedStateMachine):
    """Any order of events, when small sets are always spelled out."""

    def __init__(self) -> None:
        super().__init__()
        self.holders = Holders(ROWS, SLOTS, cells=100, sets=0)
        self.holders._most_small_sets = 0
        self.sets: dict[int, set[int]] = {row: set() for row in range(1, ROWS + 1)}

    @rule(row=ROW, slot=SLOT)
    def add(self, row: int, slot: int) -> None:
        assert self.holders.add(row, 1 << slot) == (slot not in self.sets[row])
        self.sets[row].add(slot)

    @rule(row=ROW, slot=SLOT)
    def discard(self, row: int, slot: int) -> None:
        assert self.holders.discard(row, 1 << slot) == (slot in self.sets[row])
        self.sets[row].discard(slot)

    @rule(row=ROW)
    def empty(self, row: int) -> None:
        self.holders.empty(row)
        self.sets[row].clear()

    @rule(slot=SLOT)
    def forget(self, slot: int) -> None:
        self.holders.forget(1 << slot)
        for held in self.sets.values():
            held.discard(slot)

    @invariant()
    def sets_agree(self) -> None:
        assert {row: of(self.holders, row) for row in self.sets} == self.sets
        assert self.holders.held == sum(map(bool, self.sets.values()))

    def teardown(self) -> None:
        """What was taken is given back."""
        for row in self.sets:
            self.holders.empty(row)
        assert self.holders._cells_left == 100 + 2 * FEW
        assert self.holders._sets() == 1


TestSpelledOut = SpelledOut.TestCase


@given(st.lists(st.tuples(ROW, SLOT), max_size=80))
def test_it_is_full_before_it_overflows(pairs: list[tuple[int, int]]) -> None:
    holders = Holders(ROWS, SLOTS, cells=0, sets=0)
    holders._most_small_sets = 0
    for row, slot in pairs:
        if holders.full:
            for other in range(1, ROWS + 1):
                holders.empty(other)
        assert not holders.full
        holders.add(row, 1 << slot)
        assert holders._cells_left >= 0
        assert of(holders, row) >= {slot}
