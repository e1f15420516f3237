"""The results as pictures. Matplotlib is imported when something is drawn."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bench.overhead.budgets import BUDGETS
from bench.overhead.gateways import DIRECT
from bench.overhead.page import PLOTS
from bench.overhead.results import Result, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 120
MARKERS = "os^Dv<>Pp*XdhH"
FAR = 4.0
"""A bar so many times as long as the next is cut at the edge of its panel."""
SERVICES = ("gateway", "edge", "scheduler", "tokenizer")
"""As bars are stacked: a peer is one process."""
CPU = {
    "stream64": ("a token, µs", "us_a_token"),
    "stream256": ("a token, µs", "us_a_token"),
    "short": ("a request, ms", "ms_a_request"),
    "long": ("a request, ms", "ms_a_request"),
}
LINES = (
    ("throughput", "tokens/s", "tokens_per_s"),
    ("throughput", "CPU, µs a token", "cpu_us_a_token"),
    ("requests", "requests/s", "requests_per_s"),
    ("requests", "CPU, ms a request", "cpu_ms_a_request"),
)
WIDE = ("tokens_per_s", "cpu_us_a_token")
"""Over so many callers these go through more than two decades."""
Draw = Callable[["Axes", Result], None]


def plot(results: Results, directory: Path) -> None:
    """Draw all that there are results for."""
    for (name, title), panels in zip(PLOTS, (_cpu(), _latency(), _throughput()), strict=True):
        drawn = [(case, text, draw) for case, text, draw in panels if case in results]
        if drawn:
            _draw(title, drawn, results).savefig(directory / name, dpi=DOTS_PER_INCH, format="png")


def _draw(title: str, panels: Sequence[tuple[str, str, Draw]], results: Results) -> "Figure":
    # Without pyplot there is no global state, no window, and files are drawn by Agg.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for place, (case, text, draw) in enumerate(panels, 1):
        axes, was = figure.add_subplot(1, len(panels), place), results[case].conditions
        draw(axes, results[case])
        axes.set_title(f"{case}: {text}\n{was.commit}, {was.begun}, {was.cores} cores", fontsize=8)
    return figure


def _cpu() -> list[tuple[str, str, Draw]]:
    return [(case, f"CPU {text}", _stacked(case, ending)) for case, (text, ending) in CPU.items()]


def _latency() -> list[tuple[str, str, Draw]]:
    added = {"p50": "ttft_p50_ms", "p99": "ttft_p99_ms"}
    gaps = {"p50": "gap_p50_ms", "p99": "gap_p99_ms"}
    return [
        ("low", "TTFT added to the engine's, ms", _grouped(added, less=DIRECT)),
        ("stream64", "gap between tokens, ms", _grouped(gaps)),
        ("stream256", "gap between tokens, ms", _grouped(gaps)),
    ]


def _throughput() -> list[tuple[str, str, Draw]]:
    return [(case, text, _over_load(text, figure)) for case, text, figure in LINES]


def _stacked(case: str, ending: str) -> Draw:
    def draw(axes: "Axes", result: Result) -> None:
        [load] = result.loads
        subjects = _with(result, f"cpu_{ending}")
        left = [0.0] * len(subjects)
        for service in SERVICES:
            widths = [result.median(each, f"{service}_{ending}", load) or 0.0 for each in subjects]
            if any(widths):
                axes.barh(range(len(subjects)), widths, 0.6, left=left, label=service)
                left = [sum(each) for each in zip(left, widths, strict=True)]
        edge = _right_edge(left)
        for place, subject in enumerate(subjects):
            values = result.values(subject, f"cpu_{ending}", load)
            axes.plot([min(values), max(values)], [place, place], color="black", linewidth=1)
            _write(axes, left[place], place, edge)
        axes.set_xlim(0, edge)
        _mark_budget(axes, case, f"cpu_{ending}", result)
        _name_bars(axes, subjects)

    return draw


def _mark_budget(axes: "Axes", case: str, figure: str, result: Result) -> None:
    for budget in BUDGETS:
        if budget.case == case and budget.ours.figure == figure and budget.theirs is not None:
            theirs = budget.theirs.value(result)
            if theirs is not None:
                bound, whose = budget.times * theirs, budget.theirs.subject
                label = f"budget, {budget.times:g} x {whose}"
                axes.axvline(bound, color="black", linestyle=":", linewidth=1, label=label)


def _grouped(figures: Mapping[str, str], less: str = "") -> Draw:
    def draw(axes: "Axes", result: Result) -> None:
        [load] = result.loads
        subjects = [each for each in _with(result, next(iter(figures.values()))) if each != less]
        thick, drawn = 0.7 / len(figures), dict[float, float]()
        for number, (name, figure) in enumerate(figures.items()):
            places = [place + thick * (number - 0.5) for place in range(len(subjects))]
            base = result.median(less, figure, load) or 0.0 if less else 0.0
            values = [(result.median(each, figure, load) or 0.0) - base for each in subjects]
            axes.barh(places, values, thick, label=name)
            drawn |= zip(places, values, strict=True)
        edge = _right_edge(list(drawn.values()))
        for place, value in drawn.items():
            _write(axes, value, place, edge)
        axes.set_xlim(min(0.0, *drawn.values()), edge)
        _name_bars(axes, subjects)

    return draw


def _right_edge(values: Sequence[float]) -> float:
    """Room for all bars, unless one or two would leave nothing to see of the others."""
    ordered = sorted(values)
    longest = next(
        (
            shorter
            for shorter, longer in pairwise(ordered)
            if longer > FAR * shorter and shorter >= ordered[len(ordered) // 2]
        ),
        ordered[-1],
    )
    return 1.2 * longest


def _write(axes: "Axes", value: float, place: float, edge: float) -> None:
    """The number beside its bar; within it where the bar is cut."""
    if value <= edge:
        axes.text(value, place, f" {value:.3g}", fontsize=7, va="center")
    else:
        text = f"{value:.3g} → "
        axes.text(edge, place, text, fontsize=7, va="center", ha="right", color="white")


def _over_load(text: str, figure: str) -> Draw:
    def draw(axes: "Axes", result: Result) -> None:
        for subject in _with(result, figure):
            number = result.subjects.index(subject)  # of one colour in all panels
            points = [
                (int(load.split()[0]), value)
                for load in result.loads
                if (value := result.median(subject, figure, load)) is not None
            ]
            axes.plot(
                [at_once for at_once, _ in points],
                [value for _, value in points],
                marker=MARKERS[number % len(MARKERS)],
                color=f"C{number % 10}",
                label=subject,
                markersize=4,
            )
        asked = [int(load.split()[0]) for load in result.loads]
        axes.set_xscale("log", base=2)
        axes.set_xticks(asked, [str(each) for each in asked], fontsize=8)
        axes.set_xlabel("at once", fontsize=8)
        axes.set_ylabel(text, fontsize=8)
        if figure in WIDE:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        else:
            axes.set_ylim(bottom=0)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, framealpha=0.6)

    return draw


def _with(result: Result, figure: str) -> list[str]:
    """The subjects that have this figure."""
    having = {each.subject for each in result.measured if figure in each.figures}
    return [subject for subject in result.subjects if subject in having]


def _name_bars(axes: "Axes", subjects: Sequence[str]) -> None:
    axes.set_yticks(range(len(subjects)), subjects, fontsize=8)
    axes.set_ylim(len(subjects) - 0.5, -0.5)  # in the table's order, from above
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=7, framealpha=0.6)
