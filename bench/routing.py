"""All policies and the peers' formulas side by side, as rows of markdown.

`python -m bench.routing --trace FILE --workers 8,32 --loads 0.6,0.8,0.95 [--requests N]`
"""

import argparse
import sys
from collections.abc import Sequence
from random import Random

from bench.peers import PEERS, hears_ends
from command.errors import CommandError
from command.simulate import at_load, check_workers, costs, load_trace, serve
from command.simulation.capacity import capacity_per_s
from command.simulation.results import HEADINGS, cells
from command.simulation.workload import Job
from services.scheduler.placement import POLICIES
from services.worker.sim_core import SimSettings

ALL = {**POLICIES, **PEERS}
AT_ONCE = {*PEERS, "predicted"}
"""Run also, or only, without the scheduler's late binding: the peers place at once."""


def main() -> int:
    """Print a table for each fleet and load; 1 for what cannot be read."""
    arguments = _arguments()
    try:
        settings = costs(arguments)
        jobs = load_trace(arguments.trace, arguments.requests)
        for workers in arguments.workers:
            check_workers(workers)
            _fleet(jobs, workers, settings, arguments)
    except CommandError as error:
        print(f"bench.routing: {error}", file=sys.stderr)
        return 1
    return 0


def _fleet(
    jobs: Sequence[Job], workers: int, settings: SimSettings, arguments: argparse.Namespace
) -> None:
    capacity = capacity_per_s(jobs, workers, settings)
    print(f"\n### {workers} workers; round_robin's capacity is {capacity:.2f} requests/s")
    for load in arguments.loads:
        print(f"\nLoad {load:g}, {load * capacity:.2f} requests/s:\n", flush=True)
        _table(at_load(jobs, load, capacity), workers, settings, arguments.seed)


def _table(jobs: Sequence[Job], workers: int, settings: SimSettings, seed: int) -> None:
    print(_row(HEADINGS))
    print(_row(["---"] + ["---:"] * (len(HEADINGS) - 1)))
    for name, at_once in runs():
        policy = ALL[name](Random(seed))
        row = serve(policy, jobs, workers, settings, hears_ends(policy), at_once)
        policy_cell, *figures = cells(row)
        placed = f"{policy_cell}, placed at once" if at_once and name in POLICIES else policy_cell
        print(_row([placed, *figures]), flush=True)


def runs() -> list[tuple[str, bool]]:
    """Each policy as it is run, and whether it places at once."""
    late = [(name, False) for name in POLICIES]
    return late + [(name, True) for name in ALL if name in AT_ONCE]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--trace", required=True, metavar="FILE", help="Mooncake JSON lines")
    parser.add_argument("--workers", type=_counts, default=[8], metavar="N,…")
    parser.add_argument("--loads", type=_parts, default=[0.6, 0.8, 0.95], metavar="PART,…")
    parser.add_argument("--requests", type=int, metavar="N", help="the first N")
    parser.add_argument("--capacity-blocks", type=int, default=1500, metavar="N")
    parser.add_argument("--sim", default="", metavar="KEY=VALUE,…", help="step costs")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parts(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
