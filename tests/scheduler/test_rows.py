"""The hash table: rows by hash, one by one and all at once."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.rows import Rows

LIMIT = 8
# Few buckets and equal lower halves: chains are long.
HASHES = st.integers(0, 12).map(lambda number: number % 3 | number << 60)


@given(st.lists(st.tuples(st.booleans(), HASHES), max_size=60), st.lists(HASHES, max_size=20))
def test_rows_are_found_until_they_are_freed(
    events: list[tuple[bool, int]], asked: list[int]
) -> None:
    rows, model = Rows(LIMIT), dict[int, int]()
    for adds, block in events:
        if not adds and block in model:
            rows.free(model.pop(block))
        elif adds and block not in model and not rows.full:
            model[block] = rows.add(block)
        assert rows.full == (len(model) == LIMIT)
    assert {block: rows.key(row) for block, row in model.items()} == {
        block: block for block in model
    }
    assert len(set(model.values())) == len(model)
    assert all(0 < row <= rows.last <= LIMIT for row in model.values())
    found = [model.get(block, 0) for block in asked]
    assert [rows.find(block) for block in asked] == found
    assert rows.find_all(asked).tolist() == found
