"""Results to draw and write, as if they had been measured."""

from bench.overhead.cases import CASES
from bench.overhead.conditions import Conditions
from bench.overhead.figures import Figures
from bench.overhead.results import Measured, Result

CONDITIONS = Conditions(
    commit="abc1234",
    begun="2026-11-28 05:00 UTC",
    cores=2,
    processor="A processor",
    nice=10,
    load_average=0.5,
    part=1.0,
    versions={"Python": "3.11.7", "smg": "1.13.0"},
)


def measured(subject: str, figures: Figures, load: str = "64 at once", repeat: int = 0) -> Measured:
    return Measured(subject, load, repeat, figures, others_cores=0.05)


def result(*rows: Measured) -> Result:
    return Result(CONDITIONS, rows, seconds=90.0)


def whole(name: str, repeats: int = 2) -> Result:
    """Each column of a case has a figure for each subject, each load and each repeat."""
    case = CASES[name]
    figures = {column.figure for column in case.columns} | {"cpu_us_a_token", "cpu_ms_a_request"}
    loads = [load.label for load in getattr(case.measure, "loads", ())] or ["", "more", "again"]
    return result(
        *(
            measured(subject, dict.fromkeys(figures, 10.0 + place + repeat), load, repeat)
            for repeat in range(repeats)
            for place, subject in enumerate(case.subjects)
            for load in loads
        )
    )
