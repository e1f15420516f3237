"""The hash chain is what docs/formats.md says."""

import re
from pathlib import Path
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from services.blocks import block_hash, block_hashes, chain_root, read_hashes

FORMATS = Path(__file__).parent.parent / "docs" / "formats.md"

names = st.text(max_size=8)
ids = st.lists(st.integers(0, 2**32 - 1), max_size=40)
few_ids = st.lists(st.integers(0, 2), max_size=24)
block_sizes = st.integers(1, 9)


def packed(tokens: list[int]) -> bytes:
    return pack(f"<{len(tokens)}I", *tokens)


def hashes(tokens: list[int], block_size: int, root: int) -> list[int]:
    return list(read_hashes(block_hashes(packed(tokens), block_size, root)))


def example_rows() -> list[tuple[bytes, int, bytes]]:
    """The bytes, number and wire form of each row of the document's example."""
    cells = re.findall(
        r"\| `([0-9a-f ]+)` \| `(0x[0-9a-f]+)` \| `([0-9a-f]+)` \|", FORMATS.read_text()
    )
    return [
        (bytes.fromhex(hashed), int(number, 16), bytes.fromhex(wire))
        for hashed, number, wire in cells
    ]


def test_each_row_of_the_example_is_the_hash_of_its_bytes() -> None:
    rows = example_rows()
    assert len(rows) == 3
    for hashed, number, wire in rows:
        assert xxh3_64_intdigest(hashed) == number
        assert xxh3_64_digest(hashed) == wire[::-1]


def test_the_code_computes_the_example() -> None:
    (_, root, _), (_, first, first_wire), (_, second, second_wire) = example_rows()
    assert chain_root("smollm2") == root
    assert hashes(list(range(1, 10)), 4, root) == [first, second]
    assert block_hashes(packed(list(range(1, 10))), 4, root) == first_wire + second_wire


def test_the_code_computes_the_other_chain_of_the_example() -> None:
    text = FORMATS.read_text()
    root = chain_root("smollm2", "lora", "tenant-7")
    for number in (root, *hashes(list(range(1, 10)), 4, root)):
        assert f"`{number:#018x}`" in text


@given(tokens=ids, block_size=block_sizes, root=st.integers(0, 2**64 - 1))
def test_all_at_once_is_one_by_one(tokens: list[int], block_size: int, root: int) -> None:
    expected, parent = [], root
    for start in range(0, len(tokens) // block_size * block_size, block_size):
        parent = block_hash(parent, packed(tokens[start : start + block_size]))
        expected.append(parent)
    assert hashes(tokens, block_size, root) == expected


@given(one=few_ids, other=few_ids, block_size=st.integers(1, 4))
def test_hashes_are_equal_as_far_as_prefixes_are(
    one: list[int], other: list[int], block_size: int
) -> None:
    root = chain_root("m")
    pairs = zip(hashes(one, block_size, root), hashes(other, block_size, root), strict=False)
    for index, (hash_of_one, hash_of_other) in enumerate(pairs):
        end = (index + 1) * block_size
        assert (hash_of_one == hash_of_other) == (one[:end] == other[:end])


@given(one=st.tuples(names, names, names), other=st.tuples(names, names, names))
def test_roots_are_equal_only_for_equal_names(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (chain_root(*one) == chain_root(*other)) == (one == other)


def test_where_a_name_ends_matters() -> None:
    roots = {chain_root("ab", "c"), chain_root("a", "bc"), chain_root("", "abc"), chain_root("abc")}
    assert len(roots) == 4


@given(tokens=ids, block_size=block_sizes)
def test_a_chain_can_be_taken_up_in_the_middle(tokens: list[int], block_size: int) -> None:
    root = chain_root("m")
    whole = hashes(tokens, block_size, root)
    for index, parent in enumerate(whole):
        rest = tokens[(index + 1) * block_size :]
        assert hashes(rest, block_size, parent) == whole[index + 1 :]
