"""Loaded adapters count like cached prefixes; a load costs its seconds."""

from typing import Any

import numpy as np
import pytest

from services.scheduler.accounts import Ended
from services.scheduler.adapters import KEEP, PRIOR_S, Adapters
from services.scheduler.facts import AdapterLoad, Key, Report
from services.scheduler.outcomes import Placed
from services.scheduler.scheduler import Scheduler
from tests.scheduler.makers import OWNER, fleet_of, hello, request

POET = ("poet",)
SECOND = AdapterLoad("poet", 1_000_000)


def said(core: Scheduler, worker_id: str, **report: Any) -> None:
    member = core.fleet.member(worker_id)
    assert member is not None
    core.report(member, Report(**report), 0.0)


def poets(*worker_ids: str) -> Scheduler:
    """Workers of one speed that can load the adapter, each within a second."""
    core = fleet_of(*(hello(worker_id, adapters=POET) for worker_id in worker_ids))
    for worker_id in worker_ids:
        said(core, worker_id, adapter_loads=(SECOND,))
    return core


def placed(core: Scheduler, request_id: str, **asked: Any) -> Placed:
    outcome = core.place(request(request_id, **({"adapter": "poet"} | asked)), 0.0)
    assert isinstance(outcome, Placed)
    return outcome


def predicted_s(core: Scheduler) -> dict[str, float]:
    """What the last decision predicted for each worker."""
    (record,) = core.decisions.last(1)
    return {each.worker_id: each.predicted_ttft_s for each in record.considered}


@pytest.mark.parametrize(
    ("loaded", "adapter", "costs"),
    [
        pytest.param((), "poet", [1.0, 1.0], id="a-load-costs-what-it-took"),
        pytest.param(POET, "poet", [1.0, 0.0], id="a-loaded-adapter-costs-nothing"),
        pytest.param(("other",), "poet", [1.0, 1.0], id="another-adapter-is-no-help"),
        pytest.param(POET, "", 0.0, id="the-base-model-is-always-there"),
    ],
)
def test_costs(loaded: tuple[str, ...], adapter: str, costs: Any) -> None:
    adapters = Adapters(8)
    for slot in (2, 5):
        adapters.join(slot)
        adapters.report(slot, (), [SECOND])
    adapters.report(5, loaded, ())
    assert np.array_equal(adapters.load_s(adapter, np.array([2, 5])), costs)


def test_what_a_load_costs_is_learned() -> None:
    adapters = Adapters(8)
    here = np.array([0])
    adapters.join(0)
    assert adapters.load_s("poet", here) == PRIOR_S
    adapters.report(0, (), [SECOND])
    assert adapters.load_s("poet", here) == 1.0
    adapters.report(0, (), [AdapterLoad("poet", 2_000_000)])
    assert adapters.load_s("poet", here) == pytest.approx(KEEP * 1 + (1 - KEEP) * 2)
    assert adapters.load_s("poet", np.array([1])) == adapters.load_s("poet", here)  # a peer
    adapters.leave(0)
    assert adapters.load_s("poet", np.array([1])) == adapters.load_s("poet", here)
    adapters.join(0)
    assert adapters.load_s("poet", here) == PRIOR_S


def test_a_worker_that_left_has_nothing_loaded() -> None:
    adapters = Adapters(8)
    adapters.join(0)
    adapters.report(0, POET, ())
    adapters.use(0, "poet", Key(OWNER, "r"))
    adapters.leave(0)
    adapters.join(0)
    assert adapters.load_s("poet", np.array([0])) == PRIOR_S


def test_a_worker_that_has_the_adapter_loaded_is_preferred_by_its_load_cost() -> None:
    core = poets("a", "b")
    said(core, "b", loaded_adapters=POET)
    assert placed(core, "0").worker_id == "b"
    assert predicted_s(core)["a"] - predicted_s(core)["b"] == pytest.approx(1.0)


def test_a_queue_that_costs_more_than_the_load_is_left_for_another_worker() -> None:
    core = poets("a", "b")
    said(core, "a", loaded_adapters=POET)
    long = {"prompt_tokens": 180}
    assert placed(core, "0", **long).worker_id == "a"
    said(core, "a", loaded_adapters=POET, waiting_requests=2, queued_prefill_tokens=30_000)
    said(core, "a", loaded_adapters=POET, waiting_requests=2, queued_prefill_tokens=30_000)
    assert placed(core, "1", **long).worker_id == "b"


def test_a_burst_for_a_new_adapter_does_not_load_it_everywhere() -> None:
    core = poets("a", "b", "c", "d")
    workers = {placed(core, str(number)).worker_id for number in range(8)}
    assert workers == {"a"}


def test_requests_for_the_base_model_spread_all_the_same() -> None:
    core = poets("a", "b", "c", "d")
    workers = {placed(core, str(number), adapter="").worker_id for number in range(8)}
    assert workers == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("ttft_s", "cost_s"),
    [
        pytest.param(1.2, 0.0, id="a-request-that-had-a-token-leaves-the-adapter-loaded"),
        pytest.param(None, 1.0, id="a-request-that-failed-tells-nothing"),
    ],
)
def test_what_stays_behind_a_request(ttft_s: float | None, cost_s: float) -> None:
    core = poets("a")
    placed(core, "0")
    core.finish(Key(OWNER, "0"), 0.0, Ended(ttft_s))
    assert core.adapters.load_s("poet", np.array([0])) == [cost_s]


def test_a_report_has_the_last_word_on_what_is_loaded() -> None:
    core = poets("a")
    placed(core, "0")
    core.finish(Key(OWNER, "0"), 0.0, Ended(1.2))
    said(core, "a")  # it unloaded the adapter for another
    assert core.adapters.load_s("poet", np.array([0])) == [1.0]


def test_the_same_life_of_a_worker_goes_on_after_its_stream_broke() -> None:
    core = poets("a")
    placed(core, "0")
    core.join(hello("a", adapters=POET), 0.0)
    said(core, "a", loaded_adapters=POET)
    core.finish(Key(OWNER, "0"), 0.0, Ended(1.2))
    assert core.adapters.load_s("poet", np.array([0])) == [0.0]
