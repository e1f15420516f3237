"""What a worker reports of vLLM's steps, and what the scheduler learns from it."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from services.scheduler.rates import Rates
from services.scheduler.reports import read_report
from services.worker.reports import Prefill, Reporting

# Importing vLLM and torch warns of what they use themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm.v1.metrics.stats import IterationStats, SchedulerStats

    from services.worker import vllm_load
    from services.worker.vllm_load import LoadLogger

Do = Callable[["Engine"], None]


class Engine:
    """A logger on an engine whose steps take as long as they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.logger = LoadLogger()

    def monotonic(self) -> float:
        return self.now_s

    def hand(self, run_id: str = "r") -> None:
        self.logger.handed(run_id)

    def step(self, took_s: float, running: int, *answered: str, generated: int = 1) -> None:
        self.now_s += took_s
        stats = IterationStats()  # type: ignore[no-untyped-call]
        stats.num_generation_tokens = generated
        for run_id in answered:
            self.logger.answered(run_id)
        self.logger.record(SchedulerStats(num_running_reqs=running), stats)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(vllm_load, "time", made)
    return made


def a_step_from_idle(engine: Engine) -> None:
    engine.wait(5)
    engine.hand()
    engine.step(0.5, 0, "r")


def steps_of_one_run(engine: Engine) -> None:
    a_step_from_idle(engine)
    engine.wait(5)
    engine.hand()
    engine.step(0.5, 1, "r")
    engine.step(0.25, 0)


def two_runs_at_once(engine: Engine) -> None:
    engine.hand("first")
    engine.wait(0.25)
    engine.hand("second")
    engine.step(0.5, 0, "first", "second")


def a_run_that_came_within_the_last_step(engine: Engine) -> None:
    engine.hand("first")
    engine.wait(0.25)
    engine.hand("second")
    engine.step(0.25, 0, "first")
    engine.step(0.5, 0, "second")


def a_run_that_never_got_to_a_step(engine: Engine) -> None:
    engine.hand("gone")
    engine.logger.left("gone")
    engine.wait(5)
    a_step_from_idle(engine)


def a_report_without_a_run(engine: Engine) -> None:
    engine.step(5, 0)


def work_that_was_forgotten(engine: Engine) -> None:
    a_step_from_idle(engine)
    engine.logger.forget_work()


@pytest.mark.parametrize(
    ("do", "steps", "seconds"),
    [
        pytest.param(a_step_from_idle, 1, 0.5, id="from-idle-it-begins-with-the-run"),
        pytest.param(steps_of_one_run, 3, 1.25, id="while-busy-with-the-step-before"),
        pytest.param(two_runs_at_once, 1, 0.75, id="with-the-first-of-two-runs"),
        pytest.param(a_run_that_came_within_the_last_step, 2, 1.0, id="no-time-counts-twice"),
        pytest.param(a_run_that_never_got_to_a_step, 1, 0.5, id="a-run-that-left-begins-none"),
        pytest.param(a_report_without_a_run, 0, 0.0, id="without-a-run-there-is-no-step"),
        pytest.param(work_that_was_forgotten, 0, 0.0, id="the-warm-up-is-no-work"),
    ],
)
def test_what_steps_took(engine: Engine, do: Do, steps: int, seconds: float) -> None:
    do(engine)
    load = engine.logger.load
    assert load.steps == steps
    assert load.step_time_s == pytest.approx(seconds)


def test_decoding_are_those_that_an_earlier_step_answered(engine: Engine) -> None:
    seen = []
    for run_id, others in (("first", ()), ("second", ("third",))):
        for each in (run_id, *others):
            engine.hand(each)
        seen.append(engine.logger.decoding)  # as the step's own outputs find it
        engine.step(0.1, 3, run_id, *others)
    seen.append(engine.logger.decoding)
    engine.logger.left("first")
    seen.append(engine.logger.decoding)
    assert seen == [0, 1, 3, 2]


def test_a_lightly_loaded_worker_has_no_free_prefills(engine: Engine) -> None:
    reporting, rates = Reporting(2048), Rates(2)
    rates.join(0, [])

    def tell(*prefills: Prefill) -> None:
        told: Any = reporting.report(engine.logger.load, prefills, False, engine.now_s)
        rates.learn(0, read_report(told))

    for tokens in (512, 2048, 1024) * 20:
        engine.wait(1.0)
        engine.hand()
        prefill_s = 0.01 + tokens * 0.0005
        engine.step(prefill_s, 1, "r")
        for number in range(40):
            if number == 8:
                tell(prefill(tokens, prefill_s))
            engine.step(0.0101, 1)
        engine.step(0.0101, 0)
        tell()
    assert rates.speed(0).prefill_s_per_token == pytest.approx(0.0005, rel=0.05)


def prefill(tokens: int, took_s: float) -> Prefill:
    return Prefill(
        request_id="r",
        computed_tokens=tokens,
        cached_tokens=0,
        queue_s=0.0,
        prefill_s=took_s,
        decoding_requests=0,
    )
