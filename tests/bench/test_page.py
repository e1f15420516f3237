"""The page about the overhead, and its pictures."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.overhead.cases import CASES
from bench.overhead.children import ROOT
from bench.overhead.columns import cell, number
from bench.overhead.page import PLOTS, page
from bench.overhead.plots import plot
from bench.overhead.results import Measured, read_results
from tests.bench.made import measured, result, whole

ALL = {name: whole(name) for name in CASES}
PNG = b"\x89PNG"


def test_every_case_has_its_section_with_its_conditions() -> None:
    text = page(ALL)
    for name in CASES:
        assert f"\n## {name}\n" in text
    assert text.count("*Commit `abc1234`, 2026-11-28 05:00 UTC, 2 repeats") == len(CASES)
    assert "other work meanwhile 0.05 to 0.05 cores" in text


def test_equal_results_make_the_same_page() -> None:
    assert page(ALL) == page(dict(ALL))


def test_a_case_that_was_not_run_has_no_table_and_no_verdict() -> None:
    text = page({"short": whole("short")})
    assert "## short" in text
    assert "## long" not in text
    assert "| [long](#long) | gateway CPU, ms a request |  |  | smg-grpc |  | ≤ 0.5 x | not" in text


def test_a_budget_says_whether_it_is_reached() -> None:
    figures = {"headway": 6.0, "smg-grpc": 10.0}
    rows = [measured(name, {"cpu_ms_a_request": value}) for name, value in figures.items()]
    text = page({"long": result(*rows)})
    assert "6.00 | 10.0 | smg-grpc | 0.60 | ≤ 0.5 x | **no** | 0 of 1 |" in text


def test_a_gateway_that_could_not_be_measured_is_named() -> None:
    failed = Measured("litellm", "", 0, {}, 0.0, "it does not answer")
    text = page({"short": result(measured("headway", {"requests_per_s": 5.0}), failed)})
    assert "**litellm was not measured** at least once: it does not answer" in text
    assert "| litellm |" not in text


def test_a_part_of_the_load_is_no_measurement() -> None:
    small = whole("short")
    small = replace(small, conditions=replace(small.conditions, part=0.1))
    assert "Only 0.1 of the load: not a measurement." in page({"short": small})


@pytest.mark.parametrize(
    ("values", "shown"),
    [([], ""), ([2.0], "2.00"), ([1.0, 3.0, 2.0], "2.00 (1.00 to 3.00)"), ([0.0, 0.0], "0")],
)
def test_a_cell_is_the_median_and_the_range(values: list[float], shown: str) -> None:
    assert cell(values) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")],
)
def test_a_number_has_three_digits_or_a_little_more(value: float, shown: str) -> None:
    assert number(value) == shown


def test_pictures_are_drawn_of_all_or_of_what_there_is(tmp_path: Path) -> None:
    plot(ALL, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {name for name, _ in PLOTS}
    for file in tmp_path.iterdir():
        assert file.read_bytes().startswith(PNG)
        file.unlink()
    plot({"low": whole("low", repeats=1)}, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["overhead-latency.png"]


def test_the_page_in_docs_is_what_its_results_make() -> None:
    docs = ROOT / "docs" / "benchmarks"
    results = read_results(docs / "overhead.json")
    if results:
        assert (docs / "overhead.md").read_text() == page(results)
