"""What a token and a request cost, against what is recorded: bench/cost says how and why."""

import asyncio
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.cost import counting
from bench.cost.__main__ import BASELINE, middle, spread
from bench.cost.baseline import BOUND, YARDSTICK, Baseline, Cost, judge, mismatch, read, write
from bench.cost.callgrind import ARCHITECTURE, Counter, NotCounted, counts
from bench.cost.wire import Arriving

RECORDED = read(BASELINE)
SLOW_MACHINE_S = 900  # 20 s where nothing else runs
SAME = {"valgrind": "3.19.0", "protobuf": "7.36.2"}

counted_here = pytest.mark.skipif(
    platform.machine() != ARCHITECTURE, reason=f"instructions are counted on {ARCHITECTURE} only"
)


@pytest.fixture(scope="session")
def costs() -> Mapping[str, Cost]:
    """All that is counted, now."""
    wrong = mismatch(RECORDED, counting.PYTHON)
    if wrong:
        pytest.fail(wrong, pytrace=False)
    try:
        return counting.count()
    except NotCounted as error:
        pytest.fail(str(error), pytrace=False)


@counted_here
@pytest.mark.timeout(SLOW_MACHINE_S)
@pytest.mark.parametrize("name", [name for name in RECORDED.costs if name != YARDSTICK])
def test_it_costs_what_is_recorded(name: str, costs: Mapping[str, Cost]) -> None:
    wrong = judge(name, RECORDED, costs, counting.versions())
    if wrong:
        pytest.fail(wrong, pytrace=False)


@counted_here
@pytest.mark.timeout(SLOW_MACHINE_S)
def test_the_baseline_has_all_that_is_counted(costs: Mapping[str, Cost]) -> None:
    assert list(costs) == list(RECORDED.costs)


def baseline(instructions: int = 1000) -> Baseline:
    costs = {YARDSTICK: Cost("code", 100), "edge.token": Cost("a token", instructions)}
    return Baseline("3.11", SAME, costs)


def counted(instructions: float, yardstick: int = 100) -> Mapping[str, Cost]:
    return {
        YARDSTICK: Cost("code", yardstick),
        "edge.token": Cost("a token", round(instructions)),
    }


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        pytest.param(counted(1000 * (1 + BOUND)), "", id="within-the-bound"),
        pytest.param(counted(1000 * (1 - BOUND)), "", id="within-the-bound-below"),
        pytest.param(counted(1000 * (1 + BOUND) + 1), "worth", id="dearer"),
        pytest.param(counted(1000 * (1 - BOUND) - 1), "gain", id="cheaper"),
        pytest.param(counted(850, 80), "", id="a-better-build-is-not-a-gain"),
        pytest.param(counted(700, 80), "gain", id="a-gain-beyond-a-better-build's"),
        pytest.param(counted(1200, 120), "", id="a-worse-build-is-no-loss"),
        pytest.param(counted(1050, 80), "worth", id="a-better-build-hides-no-loss-of-libraries"),
    ],
)
def test_what_is_wrong_with_a_count(costs: Mapping[str, Cost], said: str) -> None:
    verdict = judge("edge.token", baseline(), costs, SAME)
    assert said in verdict
    assert bool(verdict) == bool(said)


def test_a_complaint_has_both_numbers_and_the_way_to_record() -> None:
    verdict = judge("edge.token", baseline(), counted(1234), SAME)
    for part in ("edge.token", "1,234", "1,000", "a token", "python -m bench.cost --record"):
        assert part in verdict
    assert "Since" not in verdict


def test_a_complaint_names_the_versions_that_differ() -> None:
    verdict = judge("edge.token", baseline(), counted(1234), {**SAME, "protobuf": "8", "new": "1"})
    assert "Since the record, protobuf 7.36.2 is now 8, new absent is now 1." in verdict


def test_what_is_new_is_to_be_recorded() -> None:
    costs = {**counted(1), "edge.new": Cost("x", 1)}
    assert "--record" in judge("edge.new", baseline(), costs, SAME)


def test_a_baseline_is_of_one_minor_version() -> None:
    assert mismatch(baseline(), "3.11") == ""
    assert "Record" in mismatch(baseline(), "3.12")


def test_what_is_recorded_is_between_the_others() -> None:
    runs = [counted(instructions) for instructions in (1010, 1000, 1030)]
    assert middle(runs) == counted(1010)
    assert spread("edge.token", runs) == pytest.approx(0.03)


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path / "baseline.json", baseline())
    assert read(tmp_path / "baseline.json") == baseline()


def test_dumps_are_read_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        (tmp_path / f"dump.{number}").write_text(f"events: Ir\n\ntotals: {number}00\n")
    assert counts(tmp_path) == [100, 200, 1000]


@counted_here
def test_outside_of_valgrind_there_is_no_counter() -> None:
    with pytest.raises(NotCounted, match="not run under valgrind"):
        Counter()


async def test_what_arrived_is_dealt_with_when_its_reader_wants_more() -> None:
    arriving: Arriving[int] = Arriving()
    taken = []

    async def take() -> None:
        while True:
            taken.append(await arriving.next())
            await asyncio.sleep(0)

    taking = asyncio.create_task(take())
    for number in range(3):
        arriving.put(number)
    await arriving.dealt_with()
    assert taken == [0, 1, 2]
    taking.cancel()


@counted_here
def test_without_valgrind_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NotCounted, match="valgrind is not installed"):
        counting.count()


def test_on_another_machine_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(NotCounted, match="only"):
        counting.count()


@counted_here
def test_workloads_that_fail_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NotCounted, match="the workloads failed"):
        counting.count()
