"""The prefix index against rules, and against the slowest right index there is."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.index import PrefixIndex

SLOTS = 3
BLOCKS = st.lists(st.integers(0, 9), max_size=6)
SLOT = st.integers(0, SLOTS - 1)


def index_of(*stored: tuple[int, list[int]], limit: int = 100) -> PrefixIndex:
    index = PrefixIndex(limit, SLOTS)
    for slot, hashes in stored:
        index.store(slot, hashes)
    return index


@pytest.mark.parametrize(
    ("stored", "prompt", "depths"),
    [
        pytest.param([], [1, 2], [0, 0, 0], id="nothing-stored-nothing-cached"),
        pytest.param([(0, [1, 2])], [], [0, 0, 0], id="a-short-prompt-has-no-blocks"),
        pytest.param([(0, [1, 2])], [1, 2, 3], [2, 0, 0], id="the-leading-blocks-count"),
        pytest.param([(0, [2, 3])], [1, 2, 3], [0, 0, 0], id="the-first-block-must-be-there"),
        pytest.param([(1, [1, 3])], [1, 2, 3], [0, 1, 0], id="a-gap-ends-the-prefix"),
        pytest.param(
            [(0, [1]), (1, [1, 2]), (2, [1, 2, 3])],
            [1, 2, 3],
            [1, 2, 3],
            id="each-worker-has-its-own-depth",
        ),
        pytest.param([(0, [0]), (2, [2**64 - 1])], [0], [1, 0, 0], id="zero-is-a-hash"),
    ],
)
def test_match(stored: list[tuple[int, list[int]]], prompt: list[int], depths: list[int]) -> None:
    assert index_of(*stored).match(prompt, SLOTS).tolist() == depths


def test_a_block_stored_twice_is_cached_until_removed_twice() -> None:
    index = index_of((0, [1]), (0, [1]))
    index.remove(0, [1])
    assert index.match([1], SLOTS)[0] == 1
    index.remove(0, [1])
    assert index.match([1], SLOTS)[0] == 0
    assert index.blocks == 0


def test_an_expected_block_counts_until_it_is_expected_no_more() -> None:
    index = index_of((0, [1]))
    index.expect(0, [2, 3])
    assert index.match([1, 2, 3], SLOTS)[0] == 3
    index.expect_no_more(0, [2, 3])
    assert index.match([1, 2, 3], SLOTS)[0] == 1


def test_an_expected_block_that_is_stored_is_cached_and_expected_no_more() -> None:
    index = index_of()
    index.expect(0, [1])
    index.expect(1, [1])
    index.store(0, [1])
    index.expect_no_more(0, [1])
    assert index.match([1], SLOTS).tolist() == [1, 1, 0]
    index.drop(1)
    assert (index.match([1], SLOTS).tolist(), index.expected_blocks) == ([1, 0, 0], 0)


def test_the_first_block_goes_first() -> None:
    index = index_of((0, [1, 2, 3]), (1, [4]), limit=3)
    assert [int(index.match([block], SLOTS).max()) for block in (1, 2, 3, 4)] == [0, 1, 1, 1]


def test_a_matched_block_outlives_one_that_was_not() -> None:
    index = index_of((0, [1, 2, 3]), limit=3)
    index.match([1], SLOTS)
    index.store(1, [4])
    assert [int(index.match([block], SLOTS).max()) for block in (1, 2, 3, 4)] == [1, 0, 1, 1]


def test_forgotten_blocks_go_before_all_others() -> None:
    index = index_of((0, [1]), (1, [2]), (0, [3]), limit=3)
    index.match([1, 2, 3], SLOTS)
    index.drop(1)
    index.match([1], SLOTS)
    index.store(2, [4])
    assert [int(index.match([block], SLOTS).max()) for block in (1, 2, 3, 4)] == [1, 0, 1, 1]


def test_a_removal_of_a_forgotten_block_is_passed_over() -> None:
    index = index_of((0, [1, 2, 3]), limit=2)
    index.remove(0, [1])
    assert (index.blocks_of(0), index.blocks, index.entries) == (2, 2, 2)


@given(st.lists(st.tuples(SLOT, st.integers(0, 50)), max_size=300), st.integers(1, 8))
def test_the_bound_holds(stored: list[tuple[int, int]], limit: int) -> None:
    index = index_of(limit=limit)
    for slot, block in stored:
        index.store(slot, [block])
        assert index.blocks <= limit
        assert index.match([block], SLOTS)[slot] == 1
    assert index.entries == sum(index.blocks_of(slot) for slot in range(SLOTS))


class AgainstBruteForce(RuleBasedStateMachine):
    """Any order of events; the model is a list of what every worker holds."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(16, SLOTS)
        self.held: list[Counter[int]] = [Counter() for _ in range(SLOTS)]
        self.expected: list[set[int]] = [set() for _ in range(SLOTS)]

    @rule(slot=SLOT, hashes=BLOCKS)
    def store(self, slot: int, hashes: list[int]) -> None:
        self.index.store(slot, hashes)
        self.held[slot].update(hashes)
        self.expected[slot].difference_update(hashes)

    @rule(slot=SLOT, hashes=BLOCKS)
    def remove(self, slot: int, hashes: list[int]) -> None:
        self.index.remove(slot, hashes)
        self.held[slot] -= Counter(hashes)

    @rule(slot=SLOT, hashes=BLOCKS)
    def expect(self, slot: int, hashes: list[int]) -> None:
        self.index.expect(slot, hashes)
        self.expected[slot].update(hashes)

    @rule(slot=SLOT, hashes=BLOCKS)
    def expect_no_more(self, slot: int, hashes: list[int]) -> None:
        self.index.expect_no_more(slot, hashes)
        self.expected[slot].difference_update(hashes)

    @rule(slot=SLOT)
    def drop(self, slot: int) -> None:
        self.index.drop(slot)
        self.held[slot].clear()
        self.expected[slot].clear()

    @rule(slot=SLOT)
    def clear(self, slot: int) -> None:
        self.index.clear(slot)
        self.held[slot].clear()

    @rule(prompt=BLOCKS)
    def match(self, prompt: list[int]) -> None:
        depths = [self._depth(slot, prompt) for slot in range(SLOTS)]
        assert self.index.match(prompt, SLOTS).tolist() == depths

    @invariant()
    def counts_agree(self) -> None:
        sizes = [len(held) for held in self.held]
        assert [self.index.blocks_of(slot) for slot in range(SLOTS)] == sizes
        assert self.index.entries == sum(sizes)
        assert self.index.blocks == len({block for held in self.held for block in held})
        assert self.index.expected_blocks == len(set().union(*self.expected))

    def _depth(self, slot: int, prompt: list[int]) -> int:
        there = self.held[slot].keys() | self.expected[slot]
        gaps = [depth for depth, block in enumerate(prompt) if block not in there]
        return min(gaps, default=len(prompt))


TestAgainstBruteForce = AgainstBruteForce.TestCase
