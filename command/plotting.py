"""Plots of simulations, as files. Matplotlib is imported when something is drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from command.errors import CommandError
from command.simulation.results import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDING = ".png"
DOTS_PER_INCH = 120
ROW_HIGH = 0.45
"""Inches of one row in a panel of bars."""
MARKERS = "os^Dv<>Pp*XdhH"


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of merit, or several of one unit, of each policy."""

    title: str
    figures: Mapping[str, Callable[[Summary], float | None]]
    """What is drawn of a row, by its name in the legend."""


TTFT = {
    "mean": lambda row: row.ttft_mean_s,
    "p50": lambda row: row.ttft_p50_s,
    "p90": lambda row: row.ttft_p90_s,
    "p99": lambda row: row.ttft_p99_s,
}
E2E = {"p50": lambda row: row.e2e_p50_s, "p99": lambda row: row.e2e_p99_s}

BARS = (
    Panel("prefix hit rate, %", {"": lambda row: 100 * row.hit_rate}),
    Panel("time to first token, s", TTFT),
    Panel("end to end, s", E2E),
    Panel("throughput, requests/s", {"": lambda row: row.requests_per_s}),
    Panel("load imbalance, max/mean prefilled tokens", {"": lambda row: row.imbalance}),
    Panel("Jain's index between tenants' mean TTFT", {"": lambda row: row.fairness}),
)
LINES = (
    Panel("TTFT mean, s", {"": TTFT["mean"]}),
    Panel("TTFT p90, s", {"": TTFT["p90"]}),
    Panel("TTFT p99, s", {"": TTFT["p99"]}),
    Panel("prefix hit rate, %", BARS[0].figures),
    Panel("end to end p50, s", {"": E2E["p50"]}),
    Panel("load imbalance, max/mean", BARS[4].figures),
)


def check_plot(path: str) -> Path:
    """Where a plot can go: better told before a long run. Raises CommandError."""
    target = Path(path)
    if target.suffix != ENDING:
        raise CommandError(f"--plot {path}: the name must end in {ENDING}")
    try:
        with target.open("ab"):
            empty = target.stat().st_size == 0
        if empty:
            target.unlink()
    except OSError as error:
        raise CommandError(f"--plot {path}: {error.strerror}") from error
    return target


def plot_summaries(rows: Sequence[Summary], title: str, path: Path) -> None:
    """One bar a policy, one panel a figure. Raises CommandError."""
    figure = _figure(title, 3.0 + 2 * ROW_HIGH * len(rows))
    for place, panel in enumerate(BARS, 1):
        _draw_bars(figure.add_subplot(2, 3, place), panel, rows)
    _save(figure, path)


def plot_loads(loads: Mapping[float, Sequence[Summary]], title: str, path: Path) -> None:
    """Figures over the load, one line a policy, named by `Summary.policy`. Raises CommandError."""
    figure = _figure(title, 8.0)
    for place, panel in enumerate(LINES, 1):
        axes = figure.add_subplot(2, 3, place)
        _draw_lines(axes, panel, loads)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    _save(figure, path)


def _figure(title: str, height: float) -> "Figure":
    # Without pyplot there is no global state, no window, and files are drawn by Agg.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, height), layout="constrained")
    figure.suptitle(title, fontsize=10, wrap=True)
    return figure


def _draw_bars(axes: "Axes", panel: Panel, rows: Sequence[Summary]) -> None:
    thick = 0.8 / len(panel.figures)
    for number, (name, figure) in enumerate(panel.figures.items()):
        places = [
            place + thick * (number - (len(panel.figures) - 1) / 2) for place in _places(rows)
        ]
        values = [value for row in rows if (value := figure(row)) is not None]
        if len(values) == len(rows):  # tenants are the workload's: all rows have them, or none
            bars = axes.barh(places, values, thick, label=name)
            axes.bar_label(bars, fmt="%.3g", fontsize=7, padding=2)
        else:
            axes.text(0.5, 0.5, "no tenants", ha="center", transform=axes.transAxes)
    axes.set_title(panel.title, fontsize=9)
    axes.set_yticks(_places(rows), [row.policy for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # in the table's order, from above
    axes.margins(x=0.15)
    if len(panel.figures) > 1:
        axes.legend(fontsize=7, loc="lower right", framealpha=0.6)


def _places(rows: Sequence[Summary]) -> range:
    return range(len(rows))


def _draw_lines(axes: "Axes", panel: Panel, loads: Mapping[float, Sequence[Summary]]) -> None:
    [figure] = panel.figures.values()
    names = list(dict.fromkeys(row.policy for rows in loads.values() for row in rows))
    for number, name in enumerate(names):
        rows = [(load, row) for load in sorted(loads) for row in loads[load] if row.policy == name]
        axes.plot(
            [load for load, _ in rows],
            [figure(row) or 0.0 for _, row in rows],
            marker=MARKERS[number % len(MARKERS)],
            color=f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            label=name,
            markersize=4,
        )
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel("load, of what round_robin can serve", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _save(figure: "Figure", path: Path) -> None:
    try:
        figure.savefig(path, dpi=DOTS_PER_INCH, format="png")
    except OSError as error:
        raise CommandError(f"--plot {path}: {error.strerror}") from error
