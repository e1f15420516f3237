"""Results as they are kept."""

from pathlib import Path

from bench.overhead.results import Measured, read_results, write_results
from tests.bench.made import measured, result

RESULT = result(
    measured("a", {"x": 1.0}, repeat=0),
    measured("b", {"x": 5.0}, repeat=0),
    measured("a", {"x": 3.0, "y": 2.0}, repeat=1),
    Measured("b", "", 1, {}, 0.0, "did not start"),
)


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", {"case": RESULT, "other": RESULT})
    assert read_results(tmp_path / "results.json") == {"case": RESULT, "other": RESULT}


def test_without_a_file_nothing_was_measured(tmp_path: Path) -> None:
    assert read_results(tmp_path / "results.json") == {}


def test_medians_are_of_the_repeats_that_have_the_figure() -> None:
    [load] = RESULT.loads
    assert RESULT.median("a", "x", load) == 2.0
    assert RESULT.median("a", "y", load) == 2.0
    assert RESULT.median("b", "y", load) is None
    assert RESULT.repeats == 2
    assert RESULT.only(1).median("a", "x", load) == 3.0


def test_a_failure_is_told_and_is_no_figure() -> None:
    assert RESULT.failures("b") == ["did not start"]
    assert RESULT.values("b", "x", RESULT.loads[0]) == [5.0]
