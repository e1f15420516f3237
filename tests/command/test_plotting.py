"""Plots: that they are there, and that a place where none can be is told first."""

from dataclasses import replace
from pathlib import Path

import pytest

from command.errors import CommandError
from command.plotting import check_plot, plot_loads, plot_summaries
from command.simulation.results import Summary

ROW = Summary(
    policy="predicted",
    requests=9,
    hit_rate=0.5,
    ttft_mean_s=0.1,
    ttft_p50_s=0.1,
    ttft_p90_s=0.2,
    ttft_p99_s=0.4,
    e2e_p50_s=1.0,
    e2e_p99_s=2.0,
    requests_per_s=3.0,
    imbalance=1.1,
    fairness=None,
)
OTHER = replace(ROW, policy="random")
PNG = b"\x89PNG"


@pytest.mark.parametrize("fairness", [None, 0.0, 0.9])
def test_a_plot_of_policies(tmp_path: Path, fairness: float | None) -> None:
    rows = [replace(row, fairness=fairness) for row in (ROW, OTHER)]
    plot_summaries(rows, "seed 0", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG)


def test_a_plot_over_the_load(tmp_path: Path) -> None:
    many = [replace(ROW, policy=f"policy {number}") for number in range(15)]
    plot_loads({0.8: [ROW, OTHER, *many], 0.6: [OTHER]}, "8 workers", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG)


def test_asking_whether_a_plot_can_be_leaves_nothing(tmp_path: Path) -> None:
    check_plot(str(tmp_path / "new.png"))
    assert not list(tmp_path.iterdir())


def test_a_plot_that_is_there_stays_until_the_new_one_is(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    check_plot(str(tmp_path / "old.png"))
    assert (tmp_path / "old.png").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("plot.pdf", "must end in .png"),
        ("plot", "must end in .png"),
        ("nowhere/plot.png", "No such file"),
        ("folder.png", "Is a directory"),
    ],
)
def test_where_no_plot_can_be(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(CommandError, match=says):
        check_plot(str(tmp_path / name))
    if name != "plot.pdf" and name != "plot":
        with pytest.raises(CommandError, match=says):
            plot_summaries([ROW], "", tmp_path / name)
