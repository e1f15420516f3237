"""All policies and the peers' formulas side by side, as rows of markdown and as plots.

`python -m bench.routing --trace FILE --workers 8,32 --loads 0.6,0.8,0.95 [--plots DIRECTORY]`
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from bench.peers import PEERS, hears_ends
from command.errors import CommandError
from command.plotting import check_plot, plot_loads
from command.simulate import at_load, check_workers, costs, load_trace, serve
from command.simulation.capacity import capacity_per_s
from command.simulation.results import HEADINGS, Summary, cells
from command.simulation.workload import Job
from services.scheduler.placement import POLICIES
from services.worker.sim_core import PrefixCache, SimSettings

ALL = {**POLICIES, **PEERS}
AT_ONCE = {*PEERS, "predicted"}
"""Run also, or only, without the scheduler's late binding: the peers place at once."""


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one fleet at one load."""

    policy: str
    at_once: bool
    workers: int
    jobs: Sequence[Job]
    settings: SimSettings
    seed: int

    def __call__(self) -> Summary:
        """Serve the jobs."""
        policy = ALL[self.policy](Random(self.seed))
        hears = hears_ends(policy)
        row = serve(policy, self.jobs, self.workers, self.settings, hears, self.at_once)
        at_once = self.at_once and self.policy in POLICIES
        return replace(row, policy=f"{row.policy}, placed at once" if at_once else row.policy)


def main() -> int:
    """Print a table for each fleet and load; 1 for what cannot be read."""
    arguments = _arguments()
    try:
        settings = costs(arguments)
        jobs = load_trace(arguments.trace, arguments.requests)
        for workers in arguments.workers:
            check_workers(workers)
            if arguments.plots:
                check_plot(str(_plot(arguments.plots, workers)))
        with ProcessPoolExecutor(arguments.processes) as processes:
            for workers in arguments.workers:
                _fleet(jobs, workers, settings, arguments, processes)
    except CommandError as error:
        print(f"bench.routing: {error}", file=sys.stderr)
        return 1
    return 0


def _fleet(
    jobs: Sequence[Job],
    workers: int,
    settings: SimSettings,
    arguments: argparse.Namespace,
    processes: ProcessPoolExecutor,
) -> None:
    capacity = capacity_per_s(jobs, workers, settings)
    hits = oracle_hit_rate(jobs, workers * settings.capacity_blocks, settings.block_size)
    print(f"\n### {workers} workers\n")
    print(f"`round_robin`'s capacity is {capacity:.2f} requests/s; an oracle hits {hits:.1%}.")
    rows: dict[float, list[Summary]] = {}
    for load in arguments.loads:
        print(f"\nLoad {load:g}, {load * capacity:.2f} requests/s:\n", flush=True)
        made = at_load(jobs, load, capacity)
        asked = [Run(*run, workers, made, settings, arguments.seed) for run in runs()]
        rows[load] = list(_table(processes.map(Run.__call__, asked)))
    if arguments.plots:
        title = f"{workers} workers, seed {arguments.seed}"
        plot_loads(rows, title, _plot(arguments.plots, workers))


def _table(rows: Iterator[Summary]) -> Iterator[Summary]:
    print(_row(HEADINGS))
    print(_row(["---"] + ["---:"] * (len(HEADINGS) - 1)))
    for row in rows:
        print(_row(cells(row)), flush=True)
        yield row


def _plot(directory: Path, workers: int) -> Path:
    return directory / f"routing-{workers}.png"


def runs() -> list[tuple[str, bool]]:
    """Each policy as it is run, and whether it places at once."""
    late = [(name, False) for name in POLICIES]
    return late + [(name, True) for name in ALL if name in AT_ONCE]


def oracle_hit_rate(jobs: Sequence[Job], blocks: int, block_size: int) -> float:
    """What one cache of so many blocks finds, that all workers share, without any delay."""
    cache, found, asked = PrefixCache(blocks), 0, 0
    for job in jobs:
        hits = cache.hit(job.blocks)
        found += min(hits * block_size, job.prompt_tokens - 1)
        asked += job.prompt_tokens
        for block in job.blocks[hits:]:
            cache.store(block)
        cache.touch(job.blocks)
        cache.evict()
    return found / asked


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
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="runs at once")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="for a PNG a fleet")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parts(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
