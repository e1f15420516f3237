"""The prefix index against rules, and against the slowest right index there is."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from xxhash import xxh3_64_intdigest

from services.scheduler.holders import FEW
from services.scheduler.index import BYTES_PER_BLOCK, PrefixIndex

SLOTS = 3
BLOCKS = st.lists(st.integers(0, 9).map(lambda number: number << 32 | number), max_size=6)
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


def test_forgotten_blocks_make_room() -> None:
    index = index_of((0, [1]), (1, [2]), (0, [3]), limit=3)
    index.match([1, 2, 3], SLOTS)
    index.drop(1)
    index.match([1], SLOTS)
    index.store(2, [4])
    assert [int(index.match([block], SLOTS).max()) for block in (1, 2, 3, 4)] == [1, 0, 1, 1]


def test_what_follows_a_gap_is_not_spared() -> None:
    index = index_of((0, [1, 2, 3, 4]), limit=4)
    index.remove(0, [2])
    index.store(1, [5])
    index.match([1, 2, 3], SLOTS)
    index.match([4], SLOTS)
    index.match([5], SLOTS)
    index.store(0, [6])
    assert [int(index.match([block], SLOTS).max()) for block in (1, 3, 4, 5, 6)] == [1, 0, 1, 1, 1]


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


def test_of_a_sampled_index_a_match_ends_after_the_last_kept_block() -> None:
    kept, others = 4 << 32, [5 << 32, 6 << 32, 7 << 32]
    index = PrefixIndex(100, SLOTS, every=4)
    index.store(0, [others[0], kept, *others[1:]])
    index.store(1, others)
    assert index.match([others[0], kept, *others[1:]], SLOTS).tolist() == [2, 0, 0]
    assert (index.blocks, index.entries) == (1, 1)


def test_copies_beyond_the_bound_are_forgotten_too_early() -> None:
    blocks = list(range(100))
    index = index_of((0, blocks), (0, blocks), limit=100)
    index.remove(0, blocks)
    still_there = index.blocks
    assert 0 < still_there < 100
    index.remove(0, blocks)
    assert (index.blocks, index.entries) == (0, 0)


class AgainstBruteForce(RuleBasedStateMachine):
    """Any order of events; the model is a list of what every worker holds."""

    every: ClassVar[int] = 1
    limit: ClassVar[int] = 400

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(self.limit, SLOTS, self.every)
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
        held = [{block for block in held if self._is_kept(block)} for held in self.held]
        expected = {block for block in set().union(*self.expected) if self._is_kept(block)}
        assert [self.index.blocks_of(slot) for slot in range(SLOTS)] == [len(own) for own in held]
        assert self.index.entries == sum(len(own) for own in held)
        assert self.index.blocks == len(set().union(*held))
        assert self.index.expected_blocks == len(expected)

    def _is_kept(self, block: int) -> bool:
        return (block >> 32) % self.every == 0

    def _depth(self, slot: int, prompt: list[int]) -> int:
        there = self.held[slot].keys() | self.expected[slot]
        depth = 0
        for end, block in enumerate(prompt, 1):
            if self._is_kept(block):
                if block not in there:
                    return depth
                depth = end
        return depth


class Sampled(AgainstBruteForce):
    """The same, for an index that keeps one block in three."""

    every = 3


class SpelledOut(AgainstBruteForce):
    """The same, when there are too many sets to keep each once."""

    def __init__(self) -> None:
        super().__init__()
        self.index._holders._most_small_sets = 0


class AtTheBound(AgainstBruteForce):
    """An index that is too small knows less than there is, and never more."""

    limit = 4

    def __init__(self) -> None:
        super().__init__()
        self.index._holders._most_small_sets = 0
        self.index._holders._cells_left = FEW + 2

    @rule(prompt=BLOCKS)
    def match(self, prompt: list[int]) -> None:
        depths = self.index.match(prompt, SLOTS).tolist()
        assert all(depths[slot] <= self._depth(slot, prompt) for slot in range(SLOTS))

    @invariant()
    def counts_agree(self) -> None:
        assert self.index.blocks <= self.limit
        assert self.index.expected_blocks <= self.limit
        for slot in range(SLOTS):
            assert 0 <= self.index.blocks_of(slot) <= len(self.held[slot])

    def teardown(self) -> None:
        for slot in range(SLOTS):
            self.index.drop(slot)
        assert (self.index.blocks, self.index.entries, self.index.expected_blocks) == (0, 0, 0)


TestAgainstBruteForce = AgainstBruteForce.TestCase
TestSampled = Sampled.TestCase
TestSpelledOut = SpelledOut.TestCase
TestAtTheBound = AtTheBound.TestCase

PATH = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def chain(path: Sequence[int]) -> list[int]:
    """Hashes of a prompt's blocks, each of which names all before it."""
    return [xxh3_64_intdigest(bytes(path[:end])) for end in range(1, len(path) + 1)]


@given(st.lists(st.tuples(st.booleans(), PATH), max_size=40), PATH, st.integers(1, 5))
def test_sampling_never_credits_what_is_not_there(
    events: list[tuple[bool, list[int]]], prompt: list[int], every: int
) -> None:
    """Engines drop a prefix from its end: a block goes after all that follow it."""
    index, held = PrefixIndex(100, 1, every), set[tuple[int, ...]]()
    for stores, path in events:
        prefixes = [tuple(path[:end]) for end in range(1, len(path) + 1)]
        if stores:
            new = [prefix for prefix in prefixes if prefix not in held]
            index.store(0, [chain(prefix)[-1] for prefix in new])
            held.update(new)
        elif prefixes[-1] in held:
            gone = [prefix for prefix in held if prefix[: len(path)] == prefixes[-1]]
            index.remove(0, [chain(prefix)[-1] for prefix in gone])
            held.difference_update(gone)
    there = sum(tuple(prompt[:end]) in held for end in range(1, len(prompt) + 1))
    kept = [end for end, block in enumerate(chain(prompt)[:there], 1) if not (block >> 32) % every]
    assert index.match(chain(prompt), 1).tolist() == [max(kept, default=0)]


Pairs = Iterator[tuple[int, list[int]]]
WORKERS = 1000
SET_BYTES = 310  # of a kept set, with so many workers


def one_holder_each(entries: int, rng: Random) -> Pairs:
    for first in range(entries // 100):
        yield first % WORKERS, [rng.getrandbits(64) for _ in range(100)]


def random_pairs(entries: int, rng: Random) -> Pairs:
    blocks = [rng.getrandbits(64) for _ in range(entries // 4)]
    for _ in range(entries):
        yield rng.randrange(WORKERS), [rng.choice(blocks)]


def just_too_many_to_spell_out(entries: int, rng: Random) -> Pairs:
    for _ in range(entries // 13):
        block = rng.getrandbits(64)
        yield from ((slot, [block]) for slot in rng.sample(range(WORKERS), 13))


def every_block_twice(entries: int, rng: Random) -> Pairs:
    for slot, blocks in one_holder_each(entries, rng):
        yield slot, blocks + blocks


def shared_prefixes(entries: int, rng: Random) -> Pairs:
    for _ in range(entries // 16_000):
        prefix = [rng.getrandbits(64) for _ in range(64)]
        yield from ((slot, prefix) for slot in rng.sample(range(WORKERS), 250))


@pytest.mark.parametrize(
    ("pairs", "entries", "limit"),
    [
        pytest.param(one_holder_each, 200_000, 200_000, id="one-holder-each"),
        pytest.param(random_pairs, 200_000, 50_000, id="random-pairs"),
        pytest.param(just_too_many_to_spell_out, 50_000, 3_846, id="thirteen-random-holders-each"),
        pytest.param(every_block_twice, 50_000, 50_000, id="every-block-stored-twice"),
        pytest.param(shared_prefixes, 160_000, 10_000, id="shared-prefixes"),
        pytest.param(one_holder_each, 100_000, 25_000, id="four-times-the-bound"),
        pytest.param(random_pairs, 100_000, 12_500, id="random-pairs-at-the-bound"),
    ],
)
def test_bytes_per_entry(pairs: Callable[[int, Random], Pairs], entries: int, limit: int) -> None:
    gc.collect()
    tracemalloc.start()
    index = PrefixIndex(limit, WORKERS)
    for slot, blocks in pairs(entries, Random(1)):
        index.store(slot, blocks)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken <= BYTES_PER_BLOCK * index.entries
    assert taken <= BYTES_PER_BLOCK * limit + 2 * WORKERS * SET_BYTES
