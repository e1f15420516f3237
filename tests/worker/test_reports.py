"""What the scheduler hears, and when."""

import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.worker.engine import EngineLoad
from services.worker.reports import AdapterLoad, Prefill, Reporting


def reporting(load: EngineLoad, now_s: float = 100.0) -> Reporting:
    told = Reporting(step_budget_tokens=100)
    told.report(load, [], is_draining=False, now_s=now_s)
    return told


@pytest.mark.parametrize(
    ("load", "is_draining", "now_s", "due"),
    [
        pytest.param(EngineLoad(running=8), False, 100.1, False, id="nothing-new"),
        pytest.param(EngineLoad(running=8), False, 101.0, True, id="the-heartbeat"),
        pytest.param(EngineLoad(running=8), True, 100.1, True, id="it-drains"),
        pytest.param(EngineLoad(running=10), False, 100.1, False, id="a-little-more"),
        pytest.param(EngineLoad(running=8, waiting=3), False, 100.1, True, id="much-more"),
        pytest.param(EngineLoad(running=5), False, 100.1, True, id="much-less"),
        pytest.param(
            EngineLoad(running=8, queued_prefill_tokens=100), False, 100.1, True, id="a-long-prompt"
        ),
    ],
)
def test_when_a_report_is_due(load: EngineLoad, is_draining: bool, now_s: float, due: bool) -> None:
    told = reporting(EngineLoad(running=8))
    assert told.is_due(load, is_draining, now_s, heartbeat_s=1.0) is due


def test_a_report_is_due_when_other_adapters_are_loaded() -> None:
    told = reporting(EngineLoad())
    assert told.is_due(EngineLoad(), False, 100.1, 1.0, loaded_adapters=("poet",))


def test_the_first_report_is_always_due() -> None:
    assert Reporting(100).is_due(EngineLoad(), False, now_s=0.0, heartbeat_s=1.0)


def test_a_report_tells_what_happened_since_the_last() -> None:
    told = reporting(EngineLoad(steps=5, step_time_s=1.0, generated_tokens=7))
    load = EngineLoad(
        running=2,
        kv_usage=0.5,
        steps=8,
        step_time_s=1.25,
        generated_tokens=9,
        prefix_queried_tokens=40,
        prefix_hit_tokens=30,
    )
    prefill = Prefill(
        request_id="r",
        computed_tokens=10,
        cached_tokens=30,
        queue_s=0.001,
        prefill_s=0.5,
        decoding_requests=3,
    )
    adapter_load = AdapterLoad("poet", 0.25)
    report = told.report(load, [prefill], True, 101.0, ("poet",), [adapter_load])
    assert (report.running_requests, report.kv_usage, report.draining) == (2, 0.5, True)
    assert (report.steps, report.step_time_us, report.generated_tokens) == (3, 250_000, 2)
    assert (report.prefix_queried_tokens, report.prefix_hit_tokens) == (40, 30)
    (timing,) = report.prefills
    assert (timing.queue_us, timing.prefill_us, timing.decoding_requests) == (1000, 500_000, 3)
    assert report.loaded_adapters == ["poet"]
    assert report.adapter_loads == [pb.AdapterLoad(adapter="poet", load_us=250_000)]


def test_what_was_not_heard_is_told_again() -> None:
    told = reporting(EngineLoad(steps=5))
    told.report(EngineLoad(steps=8), [], False, now_s=101.0)
    told.take_back()
    assert told.is_due(EngineLoad(steps=8), False, now_s=101.0, heartbeat_s=1.0)
    assert told.report(EngineLoad(steps=9), [], False, now_s=101.0).steps == 4
