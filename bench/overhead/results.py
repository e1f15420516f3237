"""What the cases came to, as a file that the page is made of. Each case is of one run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from bench.overhead.conditions import Conditions
from bench.overhead.figures import Figures


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement of one subject."""

    subject: str
    load: str
    repeat: int
    figures: Figures
    others_cores: float
    """What else the machine did since the subject was started."""
    failure: str = ""
    """Why there are no figures; else empty."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case, as it was measured last: all of it in one run."""

    conditions: Conditions
    measured: Sequence[Measured]
    seconds: float

    @property
    def subjects(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(each.subject for each in self.measured))

    @property
    def loads(self) -> list[str]:
        """In the order in which they were measured; failures have none."""
        return list(dict.fromkeys(each.load for each in self.measured if not each.failure))

    @property
    def repeats(self) -> int:
        """How often everything was measured."""
        return 1 + max(each.repeat for each in self.measured)

    def values(self, subject: str, figure: str, load: str) -> list[float]:
        """A figure of each repeat that has it."""
        return [
            each.figures[figure]
            for each in self.measured
            if (each.subject, each.load) == (subject, load) and figure in each.figures
        ]

    def median(self, subject: str, figure: str, load: str) -> float | None:
        """A figure; None when it was not measured."""
        values = self.values(subject, figure, load)
        return median(values) if values else None

    def only(self, repeat: int) -> "Result":
        """One repeat alone."""
        return replace(self, measured=[each for each in self.measured if each.repeat == repeat])

    def failures(self, subject: str) -> list[str]:
        """Why a subject could not be measured, once for each time."""
        return [each.failure for each in self.measured if each.subject == subject and each.failure]


Results = Mapping[str, Result]
"""By the name of the case."""


def read_results(file: Path) -> dict[str, Result]:
    """What is there already; nothing when there is no such file."""
    try:
        cases = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return {
        name: Result(
            Conditions(**case["conditions"]),
            tuple(Measured(**each) for each in case["measured"]),
            case["seconds"],
        )
        for name, case in cases.items()
    }


def write_results(file: Path, results: Results) -> None:
    """A line for each measurement, so that a change can be read."""
    cases = []
    for name, result in results.items():
        measured = ",\n".join(f"   {json.dumps(_rounded(each))}" for each in result.measured)
        conditions = json.dumps(asdict(result.conditions))
        cases.append(
            f' {json.dumps(name)}: {{\n  "conditions": {conditions},\n'
            f'  "seconds": {result.seconds:.0f},\n  "measured": [\n{measured}\n  ]\n }}'
        )
    file.write_text("{\n" + ",\n".join(cases) + "\n}\n")


def _rounded(measured: Measured) -> dict[str, object]:
    """Five digits: no figure is known better."""
    figures = {name: float(f"{value:.5g}") for name, value in measured.figures.items()}
    return asdict(measured) | {"figures": figures, "others_cores": round(measured.others_cores, 3)}
