"""The results as markdown. Pure: the same results make the same page."""

from collections.abc import Iterator, Sequence

from bench.overhead.budgets import BUDGETS, Budget, times_reached, verdict
from bench.overhead.cases import CASES, Case
from bench.overhead.columns import Column, cell, number
from bench.overhead.results import Result, Results

HEADING = """\
# Overhead: what the gateway costs, beside its peers

Made by `make bench-overhead` from [overhead.json](overhead.json). Nothing
here is written by hand: look for reasons in [hot-path.md](hot-path.md). Parts of it:
`python -m bench.overhead --help`.

**How it is measured.** Every gateway gets the same requests in the same order, from a load
generator in a process of its own, and stands before two simulated engines of the same pace:
Headway's own step model, behind OpenAI's HTTP, smg's gRPC or Headway's worker. All of it runs on
one machine over loopback, started afresh for every measurement. Gateways take turns (A B A B),
so that a slow minute meets all of them. **CPU** is user and system time of the gateway's own
processes while the load runs, from `/proc`: for Headway edge, tokenizer and scheduler; engines
and the load are not charged. `direct` is one engine alone. **Tokens** are those that the engine
made, in however many events they came. **TTFT** is from the request written to an open
connection to the first text read. Cells are medians over the repeats, with their range. **Each
table is of one run**, whose conditions stand above it; figures of different tables are not to be
compared.
"""
PLOTS = (
    ("overhead-cpu.png", "CPU of the gateway a token and a request"),
    ("overhead-latency.png", "added latency"),
    ("overhead-throughput.png", "throughput over the number of callers"),
)
_REACHED = {True: "yes", False: "**no**", None: "not measured"}


def page(results: Results) -> str:
    """The whole page."""
    parts = [HEADING, "\n".join(_budgets(results))]
    parts += ["\n".join(_pictures(results))]
    parts += [
        "\n".join(_case(name, CASES[name], results[name])) for name in CASES if name in results
    ]
    return "\n".join(filter(None, parts))


def _budgets(results: Results) -> Iterator[str]:
    yield "## Budgets\n"
    yield (
        "*Reached* is by the medians; *repeats* says in how many of them by themselves. The ratio"
        " is ours over theirs. What added latency is more than is `direct`.\n"
    )
    yield from _table(
        ("case", "measure", "ours", "theirs", "whose", "ratio", "budget", "reached", "repeats"),
        [_judged(budget, results) for budget in BUDGETS],
        left=("case", "measure", "whose", "budget", "reached"),
    )


def _judged(budget: Budget, results: Results) -> list[str]:
    found = verdict(budget, results)
    result = results.get(budget.case)
    repeats = ""
    if result is not None and found.is_reached is not None:
        repeats = f"{times_reached(budget, result)} of {result.repeats}"
    return [
        f"[{budget.case}](#{budget.case})",
        budget.what,
        _figure(found.ours),
        _figure(found.theirs),
        "" if budget.theirs is None else budget.theirs.subject,
        "" if found.ratio is None else f"{found.ratio:.2f}",
        budget.limit,
        _REACHED[found.is_reached],
        repeats,
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def _pictures(results: Results) -> Iterator[str]:
    if results:
        yield "## Plots\n"
        yield from (f"![{what}]({file})" for file, what in PLOTS)
        yield ""


def _case(name: str, case: Case, result: Result) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{case.what}\n"
    yield f"{_conditions(result)}\n"
    if case.by_load:
        for column in case.columns:
            yield f"**{column.heading}**\n"
            yield from _by_load(column, result)
    else:
        yield from _by_subject(case.columns, result)
    for subject in result.subjects:
        for reason in dict.fromkeys(result.failures(subject)):
            yield f"**{subject} was not measured** at least once: {reason}\n"


def _conditions(result: Result) -> str:
    was, others = result.conditions, _others(result)
    versions = ", ".join(f"{name} {each}" for name, each in was.versions.items())
    repeats = f"{result.repeats} repeat{'s' if result.repeats > 1 else ''}"
    smoke = "" if was.part == 1.0 else f" **Only {was.part:g} of the load: not a measurement.**"
    return (
        f"*Commit `{was.commit}`, {was.begun}, {repeats}, {_duration(result.seconds)},"
        f" {was.cores} cores ({was.processor}), nice {was.nice}; load average before"
        f" {was.load_average:.2f}, other work meanwhile {others}. {versions}.*{smoke}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _others(result: Result) -> str:
    """What else the machine did while each was measured, from the least to the most."""
    cores = [each.others_cores for each in result.measured]
    return f"{min(cores):.2f} to {max(cores):.2f} cores"


def _by_subject(columns: Sequence[Column], result: Result) -> Iterator[str]:
    shown = [column for column in columns if _is_measured(column, result)]
    named = ["", "load"] if len(result.loads) > 1 else [""]
    rows = [
        [*([subject, load][: len(named)]), *cells]
        for subject in result.subjects
        for load in result.loads
        if any(cells := [cell(result.values(subject, each.figure, load)) for each in shown])
    ]
    yield from _table([*named, *(column.heading for column in shown)], rows, left=named)


def _is_measured(column: Column, result: Result) -> bool:
    return any(column.figure in each.figures for each in result.measured)


def _by_load(column: Column, result: Result) -> Iterator[str]:
    subjects = [
        subject
        for subject in result.subjects
        if any(result.values(subject, column.figure, load) for load in result.loads)
    ]
    rows = [
        [load, *(cell(result.values(subject, column.figure, load)) for subject in subjects)]
        for load in result.loads
    ]
    yield from _table(["load", *subjects], rows, left=["load"])


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]
) -> Iterator[str]:
    yield _row(headings)
    yield _row(["---" if heading in left else "---:" for heading in headings])
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
