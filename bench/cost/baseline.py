"""The recorded counts, and what a new count has to be. Pure but for the file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

BOUND = 0.02
YARDSTICK = "python"
RECORD = "python -m bench.cost --record"


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions for one of what a workload counts."""

    unit: str
    instructions: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """What everything cost. `python` is a minor version; `versions` are of all that was in it."""

    python: str
    versions: Mapping[str, str]
    costs: Mapping[str, Cost]


@dataclass(frozen=True, slots=True)
class Range:
    """What a count may be, bounds included."""

    least: float
    most: float


def expected(recorded: int, scale: float) -> Range:
    """What may be counted where plain Python takes `scale` of what it took at the record."""
    return Range(recorded * min(1.0, scale) * (1 - BOUND), recorded * max(1.0, scale) * (1 + BOUND))


def scale(baseline: Baseline, costs: Mapping[str, Cost]) -> float:
    """What this build takes for plain Python, of what the recorded one took."""
    return costs[YARDSTICK].instructions / baseline.costs[YARDSTICK].instructions


def judge(
    name: str, baseline: Baseline, costs: Mapping[str, Cost], versions: Mapping[str, str]
) -> str:
    """What is wrong with a workload's count; empty when nothing is."""
    if name not in baseline.costs:
        return f"{name} is not in the baseline. Record it: {RECORD}"
    recorded, counted = baseline.costs[name].instructions, costs[name].instructions
    allowed = expected(recorded, scale(baseline, costs))
    if allowed.least <= counted <= allowed.most:
        return ""
    advice = (
        "If it is worth that, record it and say why"
        if counted > recorded
        else "Record the gain, so that it cannot be lost unnoticed"
    )
    return (
        f"{name}: {counted:,} instructions for {costs[name].unit}, {recorded:,} are recorded "
        f"({counted / recorded - 1:+.1%}), and {allowed.least:,.0f} to {allowed.most:,.0f} pass. "
        f"{advice}: {RECORD}.{_since(baseline.versions, versions)}"
    )


def _since(recorded: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """A sentence about what else is other than it was: it may be the reason."""
    other = [
        f"{name} {recorded.get(name, 'absent')} is now {version}"
        for name, version in versions.items()
        if recorded.get(name) != version
    ]
    return f" Since the record, {', '.join(other)}." if other else ""


def mismatch(baseline: Baseline, python: str) -> str:
    """Why the baseline says nothing of this interpreter; empty when it does."""
    if baseline.python == python:
        return ""
    return f"the baseline is of Python {baseline.python}, this is {python}. Record one: {RECORD}"


def read(file: Path) -> Baseline:
    """The recorded one."""
    content = json.loads(file.read_text())
    costs = {name: Cost(**cost) for name, cost in content.pop("costs").items()}
    return Baseline(**content, costs=costs)


def write(file: Path, baseline: Baseline) -> None:
    """Record one."""
    file.write_text(json.dumps(asdict(baseline), indent=2) + "\n")
