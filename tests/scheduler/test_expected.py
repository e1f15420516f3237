"""Blocks on their way, against sets of pairs."""

import tracemalloc
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.expected import BLOCK_BYTES, Expected

SLOTS = 3
SLOT = st.integers(0, SLOTS - 1)
BLOCKS = st.lists(st.integers(0, 9), max_size=6)


def of(expected: Expected, block: int) -> set[int]:
    mask = expected.of(block, 0)
    return {slot for slot in range(SLOTS) if mask >> slot & 1}


class AgainstPairs(RuleBasedStateMachine):
    """Any order of calls; the model is a set of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.expected = Expected(100, SLOTS, sets=100)
        self.pairs: set[tuple[int, int]] = set()

    @rule(slot=SLOT, blocks=BLOCKS)
    def add(self, slot: int, blocks: list[int]) -> None:
        self.expected.add(slot, blocks)
        self.pairs.update((slot, block) for block in blocks)

    @rule(slot=SLOT, blocks=BLOCKS)
    def remove(self, slot: int, blocks: list[int]) -> None:
        self.expected.remove(slot, blocks)
        self.pairs.difference_update((slot, block) for block in blocks)

    @rule(slot=SLOT)
    def forget(self, slot: int) -> None:
        self.expected.forget(slot)
        self.pairs = {pair for pair in self.pairs if pair[0] != slot}

    @invariant()
    def agrees(self) -> None:
        for block in range(10):
            assert of(self.expected, block) == {slot for slot, one in self.pairs if one == block}
        assert len(self.expected) == len({block for _, block in self.pairs})
        assert list(self.expected.each([0, 1])) == [self.expected.of(n, 0) for n in (0, 1)]

    def teardown(self) -> None:
        for slot in range(SLOTS):
            self.forget(slot)
        self.agrees()
        assert not self.expected._sets
        assert self.expected._pairs == [0] * SLOTS


TestAgainstPairs = AgainstPairs.TestCase


def test_beyond_the_bound_the_beginning_is_noted() -> None:
    expected = Expected(3, SLOTS, sets=1)
    expected.add(0, [1, 2, 3, 4])
    expected.add(1, [5])
    assert [of(expected, block) for block in (1, 3, 4, 5)] == [{0}, {0}, set(), set()]
    expected.remove(0, [1, 2, 3, 4])
    assert len(expected) == 0


def test_so_many_sets_of_several_workers_are_noted() -> None:
    expected = Expected(10, SLOTS, sets=1)
    expected.add(0, [1, 2])
    expected.add(1, [1])
    expected.add(2, [2])
    assert [of(expected, block) for block in (1, 2)] == [{0, 1}, {0}]


@pytest.mark.parametrize("workers", [1, 4096])
def test_bytes_per_block(workers: int) -> None:
    blocks, chance = 40_000, Random(1)
    hashes = [chance.getrandbits(64) for _ in range(blocks)]
    expected = Expected(blocks, workers, sets=0)
    tracemalloc.start()
    for first in range(0, blocks, 10):
        expected.add(first % workers, hashes[first : first + 10])
        assert tracemalloc.get_traced_memory()[0] <= BLOCK_BYTES * max(100, len(expected))
    tracemalloc.stop()
