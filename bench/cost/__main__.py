"""Counts what everything costs: `python -m bench.cost [--record | --dumps FOLDER]`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low

from bench.cost.baseline import Baseline, Cost, judge, mismatch, read, scale, write
from bench.cost.callgrind import NotCounted
from bench.cost.counting import PYTHON, ROOT, count, versions

BASELINE = ROOT / "tests" / "cost" / "baseline.json"
RUNS = 3  # that are recorded: the spread belongs in whatever is written about a record


def main() -> int:
    """Count, and compare or record; 1 when a count is out of its bound."""
    arguments = _arguments()
    old = read(BASELINE) if BASELINE.exists() else None
    try:
        runs = [count(arguments.dumps) for _ in range(RUNS if arguments.record else 1)]
        here = versions()
    except NotCounted as error:
        print(f"bench.cost: {error}", file=sys.stderr)
        return 2
    costs = middle(runs)
    print(_table(old, costs, runs))
    if arguments.record:
        write(BASELINE, Baseline(PYTHON, here, costs))
        return 0
    return _compare(old, costs, here)


def middle(runs: Sequence[Mapping[str, Cost]]) -> dict[str, Cost]:
    """Of each cost, what was between the others."""
    return {
        name: Cost(cost.unit, median_low(run[name].instructions for run in runs))
        for name, cost in runs[0].items()
    }


def spread(name: str, runs: Sequence[Mapping[str, Cost]]) -> float:
    """How much more the most is than the least."""
    counts = [run[name].instructions for run in runs]
    return max(counts) / min(counts) - 1


def _compare(old: Baseline | None, costs: Mapping[str, Cost], here: Mapping[str, str]) -> int:
    if old is None:
        print("nothing is recorded")
        return 1
    wrong = [mismatch(old, PYTHON)] + [judge(name, old, costs, here) for name in costs]
    print(f"plain Python takes {scale(old, costs):.3f} of what it took")
    print(*filter(None, wrong), sep="\n")
    return 1 if any(wrong) else 0


def _table(
    old: Baseline | None, costs: Mapping[str, Cost], runs: Sequence[Mapping[str, Cost]]
) -> str:
    rows = ["| what | instructions | spread | recorded | change |", "|---|---:|---:|---:|---:|"]
    for name, cost in costs.items():
        known = None if old is None else old.costs.get(name)
        change = "" if known is None else f"{cost.instructions / known.instructions - 1:+.2%}"
        recorded = "" if known is None else f"{known.instructions:,}"
        spreads = f"{spread(name, runs):.2%}" if len(runs) > 1 else ""
        rows.append(
            f"| `{name}`, {cost.unit} | {cost.instructions:,} | {spreads} | {recorded} | {change} |"
        )
    return "\n".join(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=__doc__)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--record", action="store_true", help=f"count {RUNS} times, write the middle")
    one.add_argument(
        "--dumps", type=Path, metavar="FOLDER", help="keep callgrind's dumps in a new folder"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
