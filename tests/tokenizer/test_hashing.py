"""The chain with its cache is the chain without."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.blocks import block_hashes, chain_root
from services.tokenizer import hashing
from services.tokenizer.hashing import STRETCH_BLOCKS, HashChain

ROOTS = [chain_root("m"), chain_root("m", "lora"), chain_root("m", "", "salt")]

# Prompts that begin alike: some stretches of few kinds, then a part of one.
stretches = st.integers(0, 2).map(lambda token: pack("<I", token) * STRETCH_BLOCKS)
prompts = st.tuples(
    st.lists(stretches, max_size=4).map(b"".join),
    st.lists(st.integers(0, 2**32 - 1), max_size=STRETCH_BLOCKS * 2),
).map(lambda parts: parts[0] + pack(f"<{len(parts[1])}I", *parts[1]))


@given(
    asked=st.lists(st.tuples(prompts, st.sampled_from(ROOTS)), max_size=20),
    block_size=st.integers(1, 3),
    cache_bytes=st.sampled_from([0, 4_000, 2**20]),
)
def test_the_hashes_are_those_of_the_chain(
    asked: list[tuple[bytes, int]], block_size: int, cache_bytes: int
) -> None:
    chain = HashChain(block_size, cache_bytes)
    for tokens, root in asked:
        assert chain.hash(tokens, root) == block_hashes(tokens, block_size, root)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens were hashed by each call."""
    counts: list[int] = []

    def counting(tokens: bytes, block_size: int, root: int) -> bytes:
        counts.append(len(tokens) // 4)
        return block_hashes(tokens, block_size, root)

    monkeypatch.setattr(hashing, "block_hashes", counting)
    return counts


def numbered(*stretch_numbers: int) -> bytes:
    """A stretch of blocks of one token for each of these."""
    return b"".join(pack("<I", number) * STRETCH_BLOCKS for number in stretch_numbers)


def test_what_begins_alike_is_hashed_once(hashed: list[int]) -> None:
    chain = HashChain(1, 2**20)
    chain.hash(numbered(1, 2), 7)
    chain.hash(numbered(1, 2, 3), 7)
    assert sum(hashed) == 3 * STRETCH_BLOCKS


@pytest.mark.parametrize(
    ("tokens", "root"),
    [
        pytest.param(numbered(2, 1), 7, id="in-another-order"),
        pytest.param(numbered(1, 2), 8, id="after-another-root"),
    ],
)
def test_what_begins_otherwise_is_hashed_anew(hashed: list[int], tokens: bytes, root: int) -> None:
    chain = HashChain(1, 2**20)
    chain.hash(numbered(1, 2), 7)
    chain.hash(tokens, root)
    assert sum(hashed) == 4 * STRETCH_BLOCKS


def test_what_is_asked_for_stays_and_the_rest_goes(hashed: list[int]) -> None:
    chain = HashChain(1, 20_000)  # some twenty stretches
    chain.hash(numbered(0), 7)
    for number in range(1, 200):
        chain.hash(numbered(number), 7)
        chain.hash(numbered(0), 7)
    assert sum(hashed) == 200 * STRETCH_BLOCKS
    chain.hash(numbered(1), 7)
    assert sum(hashed) == 201 * STRETCH_BLOCKS


def test_no_cache_keeps_nothing(hashed: list[int]) -> None:
    chain = HashChain(1, 0)
    for _ in range(2):
        chain.hash(numbered(1), 7)
    assert sum(hashed) == 2 * STRETCH_BLOCKS
