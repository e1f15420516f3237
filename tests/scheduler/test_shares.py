"""Fairness between tenants: who was served least goes next."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.admission import WaitingRoom
from services.scheduler.config import Config
from services.scheduler.shares import Shares, read_weights
from tests.scheduler.makers import fleet_of, hello, request

TENANTS = ("a", "b", "c")
tokens = st.integers(1, 5000)


def serve(shares: Shares, requests: dict[str, list[int]], served_tokens: int) -> Counter[str]:
    """Serve whoever is next until so many tokens were served; all have work enough."""
    served: Counter[str] = Counter()
    while served.total() < served_tokens:
        tenant = min(requests, key=lambda each: (shares.served(each), each))
        cost = requests[tenant][served[tenant] % len(requests[tenant])]
        shares.charge(tenant, cost)
        served[tenant] += cost
    return served


@given(
    st.fixed_dictionaries({tenant: st.lists(tokens, min_size=1, max_size=5) for tenant in TENANTS})
)
def test_tenants_that_always_wait_differ_by_one_request_at_most(
    requests: dict[str, list[int]],
) -> None:
    served = serve(Shares({}), requests, 100_000)
    largest = max(max(costs) for costs in requests.values())
    assert max(served.values()) - min(served[tenant] for tenant in TENANTS) <= largest


def test_weights_are_shares() -> None:
    served = serve(Shares({"a": 3.0}), {"a": [100], "b": [100]}, 40_000)
    assert served["a"] == pytest.approx(3 * served["b"], abs=300)


def test_a_tenant_that_was_away_is_owed_nothing() -> None:
    shares = Shares({})
    for _ in range(100):
        shares.charge("a", 1000)
    served = serve(shares, {"a": [100], "b": [100]}, 10_000)
    # At its return b stands where a stood before its last request: at most that one ahead.
    assert served["b"] - served["a"] <= 1000 + 100


def test_what_was_charged_too_much_is_given_back() -> None:
    shares = Shares({})
    shares.charge("a", 100)
    shares.charge("b", 100)
    shares.settle("a", -60)
    assert shares.served("a") < shares.served("b")


@given(st.lists(st.tuples(st.text(max_size=3), tokens), max_size=300))
def test_invented_tenants_take_bounded_room(charges: list[tuple[str, int]]) -> None:
    shares = Shares({}, limit=8)
    for tenant, cost in charges:
        shares.charge(tenant, cost)
        assert len(shares) <= 8


@pytest.mark.parametrize("setting", ["a", "a=", "a=x", "a=0", "a=-1", "a=inf", "=nan"])
def test_a_wrong_weight_names_its_variable(setting: str) -> None:
    with pytest.raises(ValueError, match="SCHEDULER_WEIGHTS"):
        Config(weights=(setting,))


def test_weights_are_read() -> None:
    assert read_weights(("a=2", "b=c=0.5")) == {"a": 2.0, "b=c": 0.5}


@pytest.mark.parametrize(
    ("waiting", "first"),
    [
        pytest.param([{}, {"priority": -1}], 1, id="a-higher-class-goes-first"),
        pytest.param([{"tenant": "served"}, {"tenant": "fresh"}], 1, id="then-who-got-least"),
        pytest.param([{}, {"deadline_s": 9.0}], 1, id="then-a-deadline"),
        pytest.param([{"deadline_s": 9.0}, {"deadline_s": 8.0}], 1, id="then-the-nearer-one"),
        pytest.param([{}, {}], 0, id="then-who-came-first"),
    ],
)
def test_order(waiting: list[dict[str, object]], first: int) -> None:
    shares = Shares({})
    shares.charge("served", 10)
    room = WaitingRoom(10, shares)
    for number, said in enumerate(waiting):
        room.add(request(f"r{number}", **said))
    assert next(room.order(request().pool)).key.request_id == f"r{first}"


@given(st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(0, 2)), max_size=40))
def test_order_names_everybody_once_and_what_leaves_leaves_nothing(
    waiting: list[tuple[str, int]],
) -> None:
    room = WaitingRoom(100, Shares({}))
    for number, (tenant, priority) in enumerate(waiting):
        room.add(request(f"r{number}", tenant=tenant, priority=priority))
    named = [each.key for each in room.order(request().pool)]
    assert len(named) == len(set(named)) == len(waiting)
    for key in named:
        assert room.leave(key) is not None
    assert (len(room), room.pools()) == (0, [])


def test_a_flood_delays_a_light_tenant_by_what_runs_and_no_more() -> None:
    core = fleet_of(hello("w", max_running=2))
    for number in range(50):
        core.place(request(f"flood-{number}", tenant="flood"), now_s=0.0)
    core.place(request("light", tenant="light"), now_s=0.1)
    core.finish(request("flood-0").key, now_s=0.2)
    [answer] = core.take_answers()
    assert answer.request.key.request_id == "light"


@pytest.mark.parametrize(
    ("lines", "owed"),
    [
        pytest.param({"a": 9}, set(), id="alone-nobody-is-owed"),
        pytest.param({"a": 5, "b": 5}, set(), id="equal-lines-are-equal-shares"),
        pytest.param({"a": 30, "b": 2}, {"b"}, id="few-beside-many"),
        pytest.param({"a": 30, "b": 20}, set(), id="many-beside-more"),
        pytest.param({"a": 40, "b": 2, "c": 3}, {"b", "c"}, id="several-may-be-owed"),
    ],
)
def test_who_is_owed(lines: dict[str, int], owed: set[str]) -> None:
    room = WaitingRoom(100, Shares({}))
    for tenant, waiting in lines.items():
        for number in range(waiting):
            room.add(request(f"{tenant}{number}", tenant=tenant))
    assert room.owed(request().pool) == owed


def test_who_is_owed_need_not_wait_for_the_worker_that_suits_the_others() -> None:
    roomy = {"step_budget_tokens": 1000, "max_model_tokens": 9000, "capacity_blocks": 9000}
    core = fleet_of(hello("a", **roomy), hello("b", **roomy))
    for slot, name, tokens in ((0, "a", 1800), (1, "b", 1300)):
        others = frozenset("ab") - {name}
        core.place(request(name, prompt_tokens=tokens, excluded_workers=others), 0.0)
        for _ in range(100):
            core.traffic.placed(slot, 5000, 0.0)
    blocks = tuple(range(100))
    core.index.store(0, blocks)
    asked = {"prompt_tokens": 401, "block_hashes": blocks}
    for number in range(5):
        core.place(request(f"flood{number}", tenant="flood", **asked), 0.0)
    core.place(request("light", tenant="light", **asked), 0.0)
    core.dispatch(0.23)
    placed = [answer.request.key.request_id for answer in core.take_answers()]
    assert placed == ["light"]
