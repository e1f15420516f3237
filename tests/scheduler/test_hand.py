"""The clock: who goes first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import hand
from services.scheduler.hand import Hand

LAST = 5


def taken(clock: Hand, count: int) -> list[int]:
    return [clock.next(LAST) for _ in range(count)]


@pytest.mark.parametrize(
    ("spared", "order"),
    [
        pytest.param([], [1, 2, 3, 4, 5, 1], id="in-order-and-round"),
        pytest.param([1, 2], [3, 4, 5, 1, 2, 3], id="what-is-spared-goes-a-lap-later"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], id="when-all-are-spared-none-is"),
        pytest.param([5], [1, 2, 3, 4, 1], id="the-last-is-passed-too"),
    ],
)
def test_order(spared: list[int], order: list[int]) -> None:
    clock = Hand(LAST)
    clock.spare(np.array(spared, np.uint32))
    assert taken(clock, len(order)) == order


def test_a_row_that_is_another_blocks_is_not_spared() -> None:
    clock = Hand(LAST)
    clock.spare(np.array([1], np.uint32))
    clock.spare_no_more(1)
    assert taken(clock, 1) == [1]


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(1, 9))), max_size=60))
def test_many_rows_are_passed_like_one_by_one(events: list[list[int] | None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hand, "WINDOW", 3)
        clock, spared, at = Hand(9), set[int](), 1
        for rows in events:
            if rows is not None:
                clock.spare(np.array(rows, np.uint32))
                spared.update(rows)
                continue
            while at in spared:
                spared.remove(at)
                at = at % 9 + 1
            assert clock.next(9) == at
            at = at % 9 + 1
