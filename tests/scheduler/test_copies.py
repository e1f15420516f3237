"""Copies beside the first."""

from services.scheduler.copies import Copies


def test_as_many_are_removed_as_were_added() -> None:
    copies = Copies(10, 3)
    copies.add(1, 7)
    copies.add(1, 7)
    assert [copies.remove(1, 7) for _ in range(3)] == [True, True, False]


def test_each_worker_has_its_own() -> None:
    copies = Copies(10, 3)
    copies.add(1, 7)
    assert [copies.remove(slot, 7) for slot in range(3)] == [False, True, False]


def test_a_worker_that_holds_nothing_has_no_copies() -> None:
    copies = Copies(10, 3)
    copies.add(1, 7)
    copies.add(2, 7)
    copies.clear(1)
    copies.forget(2, 7)
    assert not copies.remove(1, 7)
    assert not copies.remove(2, 7)


def test_beyond_the_bound_only_known_pairs_count() -> None:
    copies = Copies(1, 3)
    for block in (7, 7, 8):
        copies.add(0, block)
    assert [copies.remove(0, block) for block in (8, 7, 7, 7)] == [False, True, True, False]
