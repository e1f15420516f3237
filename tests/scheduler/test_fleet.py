"""Who is in the fleet, and for how long."""

import pytest

from services.scheduler.facts import Kind, Pool, Report
from services.scheduler.fleet import SLOTS, Fleet, FleetFull
from tests.scheduler.makers import TTL_S, hello

BASE = Pool("m", "", Kind.GENERATE)


def slots(fleet: Fleet, pool: Pool = BASE) -> list[int]:
    return [int(slot) for slot in fleet.open_pool(pool).roster.slots]


def test_a_worker_is_in_until_it_was_silent_for_the_ttl() -> None:
    fleet = Fleet(TTL_S)
    member = fleet.join(hello("a"), now_s=0.0)
    fleet.heard(member, now_s=1.0)
    assert fleet.silent(now_s=3.9) == []
    assert fleet.silent(now_s=4.0) == [member]


def test_a_slot_is_given_again() -> None:
    fleet = Fleet(TTL_S)
    first = fleet.join(hello("a"), 0.0)
    fleet.join(hello("b"), 0.0)
    fleet.leave(first)
    assert fleet.join(hello("c"), 0.0).slot == first.slot


def test_a_pool_is_ordered_by_id_and_not_by_arrival() -> None:
    fleet = Fleet(TTL_S)
    for name in "cab":
        fleet.join(hello(name), 0.0)
    assert slots(fleet) == [1, 2, 0]


def test_who_has_reported_is_known() -> None:
    fleet = Fleet(TTL_S)
    fleet.join(hello("a"), 0.0)
    reporting = fleet.join(hello("b"), 0.0)
    assert fleet.open_pool(BASE).roster.reported.tolist() == [False, False]
    fleet.report(reporting, Report())
    assert fleet.open_pool(BASE).roster.reported.tolist() == [False, True]


@pytest.mark.parametrize(
    ("pool", "is_in"),
    [
        pytest.param(BASE, True, id="its-main-name"),
        pytest.param(Pool("alias", "", Kind.GENERATE), True, id="its-alias"),
        pytest.param(Pool("m", "poet", Kind.GENERATE), True, id="an-adapter-it-can-load"),
        pytest.param(Pool("m", "other", Kind.GENERATE), False, id="an-adapter-it-cannot-load"),
        pytest.param(Pool("x", "", Kind.GENERATE), False, id="another-model"),
        pytest.param(Pool("m", "", Kind.EMBED), False, id="another-kind"),
    ],
)
def test_pools(pool: Pool, is_in: bool) -> None:
    fleet = Fleet(TTL_S)
    fleet.join(hello("a", adapters=("poet",)), 0.0)
    assert (slots(fleet, pool) == [0]) == is_in
    assert fleet.has_seen(pool) == is_in


def test_a_draining_worker_is_in_no_pool_and_still_in_the_fleet() -> None:
    fleet = Fleet(TTL_S)
    member = fleet.join(hello("a"), 0.0)
    fleet.drain(member)
    assert slots(fleet) == []
    assert [one.id for one in fleet.members()] == ["a"]


def test_a_worker_may_drain_by_its_own_wish() -> None:
    fleet = Fleet(TTL_S)
    member = fleet.join(hello("a"), 0.0)
    version = fleet.version
    fleet.report(member, Report(draining=True))
    assert slots(fleet) == []
    assert fleet.version > version


@pytest.mark.parametrize(
    ("epoch", "draining"),
    [
        pytest.param(1, True, id="the-same-epoch-still-drains"),
        pytest.param(2, False, id="a-new-epoch-does-not"),
    ],
)
def test_a_drain_lasts_for_the_epoch(epoch: int, draining: bool) -> None:
    fleet = Fleet(TTL_S)
    member = fleet.join(hello("a", epoch=1), 0.0)
    fleet.drain(member)
    fleet.leave(member)
    assert fleet.join(hello("a", epoch=epoch), 0.0).draining == draining


def test_load_alone_is_no_change() -> None:
    fleet = Fleet(TTL_S)
    member = fleet.join(hello("a"), 0.0)
    version = fleet.version
    fleet.report(member, Report(running_requests=9))
    fleet.heard(member, 1.0)
    assert fleet.version == version


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        pytest.param([(0, False), (1, False)], True, id="from-zero-without-a-gap"),
        pytest.param([(1, False)], False, id="it-begins-at-zero"),
        pytest.param([(0, False), (2, False)], False, id="a-gap"),
        pytest.param([(0, False), (0, False)], False, id="a-repetition"),
        pytest.param([(7, True), (8, False)], True, id="a-snapshot-may-begin-anywhere"),
        pytest.param([(0, False), (7, True), (8, False)], True, id="a-snapshot-heals-a-gap"),
    ],
)
def test_cache_changes_follow(changes: list[tuple[int, bool]], follows: bool) -> None:
    fleet = Fleet(TTL_S)
    member = fleet.join(hello("a"), 0.0)
    assert [fleet.follows(member, *change) for change in changes][-1] == follows


def test_the_fleet_is_bounded() -> None:
    fleet = Fleet(TTL_S)
    fleet._free = []
    with pytest.raises(FleetFull, match=str(SLOTS)):
        fleet.join(hello("a"), 0.0)
