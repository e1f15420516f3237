"""Cache events to the hash chain."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.blocks import block_hashes, chain_root, read_hashes
from services.worker.engine import BlocksRemoved, BlocksStored
from services.worker.kv import CachedBlocks, Change, Outbox

SIZE = 2


def chain(tokens: list[int], adapter: str = "", salt: str = "") -> list[int]:
    wire = b"".join(token.to_bytes(4, "little") for token in tokens)
    return list(read_hashes(block_hashes(wire, SIZE, chain_root("m", adapter, salt))))


def stored(
    hashes: list[int], tokens: list[int], parent: int | None = None, salt: str = ""
) -> BlocksStored:
    return BlocksStored(hashes, parent, tokens, SIZE, cache_salt=salt)


def hashes(wire: bytes) -> list[int]:
    return list(read_hashes(wire))


def test_blocks_take_their_place_in_our_chain() -> None:
    blocks = CachedBlocks("m")
    first = blocks.apply([stored([11, 12], [1, 2, 3, 4])])
    second = blocks.apply([stored([13], [5, 6], parent=12)])
    assert hashes(first.stored + second.stored) == chain([1, 2, 3, 4, 5, 6])


def test_salt_and_adapter_make_another_root() -> None:
    event = BlocksStored([1], None, [1, 2], SIZE, adapter="a", cache_salt="s")
    assert hashes(CachedBlocks("m").apply([event]).stored) == chain([1, 2], "a", "s")


def test_a_removal_names_our_hash() -> None:
    blocks = CachedBlocks("m")
    blocks.apply([stored([11, 12], [1, 2, 3, 4])])
    assert hashes(blocks.apply([BlocksRemoved([12])]).removed) == chain([1, 2, 3, 4])[1:]
    assert len(blocks) == 1


def test_copies_are_told_one_by_one() -> None:
    blocks = CachedBlocks("m")
    change = blocks.apply([stored([1], [1, 2]), stored([1], [1, 2]), BlocksRemoved([1])])
    assert (len(hashes(change.stored)), len(hashes(change.removed))) == (2, 1)
    assert hashes(blocks.snapshot().stored) == chain([1, 2])
    blocks.apply([BlocksRemoved([1])])
    assert blocks.snapshot() == Change()


def test_a_block_with_an_unknown_parent_is_left_out() -> None:
    blocks = CachedBlocks("m")
    assert blocks.apply([stored([9], [1, 2], parent=8), BlocksRemoved([9])]) == Change()
    assert blocks.untranslated == 1


def test_the_first_message_is_a_snapshot_and_numbers_have_no_gap() -> None:
    blocks = CachedBlocks("m")
    outbox = Outbox(blocks)
    outbox.add(blocks.apply([stored([1], [1, 2])]))
    number, is_snapshot, change = outbox.take()
    assert (number, is_snapshot, hashes(change.stored)) == (0, True, chain([1, 2]))
    assert outbox.is_empty
    outbox.add(blocks.apply([stored([2], [3, 4], parent=1), BlocksRemoved([1])]))
    number, is_snapshot, change = outbox.take()
    assert (number, is_snapshot) == (1, False)
    assert (len(change.stored), len(change.removed)) == (8, 8)


def test_a_new_epoch_counts_from_nothing() -> None:
    outbox = Outbox(CachedBlocks("m"))
    outbox.take()
    outbox.start_epoch()
    assert outbox.take()[:2] == (0, True)


def test_what_nobody_takes_becomes_a_snapshot() -> None:
    blocks = CachedBlocks("m")
    outbox = Outbox(blocks)
    outbox.take()
    for _ in range(2000):
        outbox.add(blocks.apply([stored([1], [1, 2]), BlocksRemoved([1])]))
    number, is_snapshot, change = outbox.take()
    assert (number, is_snapshot, change) == (1, True, Change())


moves = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=60)


@given(moves)
@pytest.mark.filterwarnings("error")
def test_whoever_counts_copies_knows_the_cache(steps: list[tuple[bool, int, bool]]) -> None:
    blocks, cached, heard = CachedBlocks("m"), Counter[int](), Counter[int]()
    outbox = Outbox(blocks)
    for is_stored, number, takes in steps:
        if is_stored:
            cached[number] += 1
            outbox.add(blocks.apply([stored([number], [number, 0])]))
        elif cached[number]:
            cached[number] -= 1
            outbox.add(blocks.apply([BlocksRemoved([number])]))
        if takes and not outbox.is_empty:
            hear(heard, outbox)
    if not outbox.is_empty:
        hear(heard, outbox)
    assert +heard == Counter({chain([each, 0])[0]: count for each, count in (+cached).items()})


def hear(heard: Counter[int], outbox: Outbox) -> None:
    _, is_snapshot, change = outbox.take()
    if is_snapshot:
        heard.clear()
    heard.update(hashes(change.stored))
    heard.subtract(hashes(change.removed))
