"""`headway simulate`: what a fleet would do, without the fleet."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from random import Random

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from command.errors import CommandError
from command.plotting import check_plot, plot_summaries
from command.progress import wide_console
from command.reading import lines_of
from command.simulation.capacity import capacity_per_s
from command.simulation.results import HEADINGS, Summary, cells, summary
from command.simulation.virtual import CannotServe, Fleet
from command.simulation.workload import (
    BLOCK_TOKENS,
    KINDS,
    BadTrace,
    Job,
    arrivals_per_s,
    faster,
    made_up,
    read_trace,
)
from services.scheduler.facts import Key
from services.scheduler.placement import POLICIES, Policy
from services.worker.sim_core import SimSettings, read_settings

MOST_WORKERS = 1000
DEFAULT_JOBS = 2000
DEFAULT_LOAD = 0.8

# One H100 SXM (989 TFLOP/s dense bf16, 3.35 TB/s) with Llama-3.1-8B in bf16 and FP8 keys and
# values, by arithmetic on the data sheet:
# prefill: 2 · 8.03e9 FLOP a token, and 4 · 32 layers · 4096 · 6,000 tokens of mean context for
#   attention, is 19.2 GFLOP; at half of the peak 39 µs.
# step: 16 GB of weights at 75 % of the bandwidth take 6.4 ms; 1.6 ms for everything else.
# decode: 12,000 tokens of context at 64 KiB are 0.79 GB a token; at 75 % of the bandwidth 310 µs.
# budget: vLLM's default for this GPU. The 1,500 blocks are 50 GB, which is the memory that is left;
#   the simulated engine gives all of it to the prefix cache and none to running requests.
H100 = "base_ms=8,prefill_us=40,decode_us=300,budget=8192,max_running=256"


def simulate(arguments: Namespace) -> None:
    """Run the workload under each policy and print a table."""
    policies = known_policies(arguments.policy) or list(POLICIES)
    plot = check_plot(arguments.plot) if arguments.plot else None
    workers, settings = check_workers(arguments.workers), costs(arguments)
    jobs = at_speed(_workload(arguments), arguments, workers, settings)
    rows = [_run(policy, jobs, workers, settings, arguments.seed) for policy in policies]
    conditions = said(jobs, workers, settings, arguments.seed)
    print(conditions)
    wide_console().print(table(rows))
    if plot is not None:
        plot_summaries(rows, conditions, plot)
        print(f"plotted in {plot}")


def costs(arguments: Namespace) -> SimSettings:
    """The step costs that the flags ask for. Raises CommandError."""
    given = f"capacity_blocks={arguments.capacity_blocks},{arguments.sim}"
    try:
        settings = read_settings(f"{H100},block_size={BLOCK_TOKENS},{given}")
    except ValueError as error:
        raise CommandError(f"--sim: {error}") from error
    if settings.block_size != BLOCK_TOKENS:
        raise CommandError(f"--sim block_size is {BLOCK_TOKENS} in a simulation")
    if not settings.base_ms + settings.decode_us + settings.prefill_us:
        raise CommandError("--sim: a step must take time")
    return settings


def check_workers(workers: int) -> int:
    """The number, if a fleet can have it. Raises CommandError."""
    if not 1 <= workers <= MOST_WORKERS:
        raise CommandError(f"--workers must be 1 to {MOST_WORKERS}, got {workers}")
    return workers


def load_trace(path: str, most: int | None) -> list[Job]:
    """The first requests of a trace file. Raises CommandError."""
    try:
        with lines_of(path, f"--trace {path}") as lines:
            return read_trace(lines, most)
    except BadTrace as error:
        raise CommandError(f"--trace {path}: {error}") from error


def at_speed(
    jobs: Sequence[Job], arguments: Namespace, workers: int, settings: SimSettings
) -> list[Job]:
    """The jobs at the speed or load asked for; without either, at 80 % of the capacity."""
    if arguments.speed is not None and arguments.load is not None:
        raise CommandError("give --speed or --load, not both")
    if arguments.speed is not None:
        if not 0 < arguments.speed < float("inf"):
            raise CommandError(f"--speed must be positive, got {arguments.speed}")
        return faster(jobs, arguments.speed)
    load = DEFAULT_LOAD if arguments.load is None else arguments.load
    return at_load(jobs, load, capacity_per_s(jobs, workers, settings))


def at_load(jobs: Sequence[Job], load: float, capacity: float) -> list[Job]:
    """The jobs, arriving at this part of the capacity. Raises CommandError."""
    if not 0 < load < float("inf"):
        raise CommandError(f"--load must be positive, got {load}")
    if arrivals_per_s(jobs) == float("inf"):  # all at one instant: no speed changes that
        return list(jobs)
    return faster(jobs, load * capacity / arrivals_per_s(jobs))


def serve(
    policy: Policy,
    jobs: Sequence[Job],
    workers: int,
    settings: SimSettings,
    on_end: Callable[[Key], None] | None = None,
    at_once: bool = False,
) -> Summary:
    """One policy's run, with a progress bar on a terminal. Raises CommandError."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(policy.name, total=len(jobs))
        fleet = Fleet(policy, workers, settings, jobs, on_end, at_once)
        try:
            served = fleet.run(lambda done: bar.update(task, completed=done))
        except CannotServe as error:
            raise CommandError(str(error)) from error
    return summary(policy.name, served, workers)


def _run(name: str, jobs: Sequence[Job], workers: int, settings: SimSettings, seed: int) -> Summary:
    return serve(POLICIES[name](Random(seed)), jobs, workers, settings)


def known_policies(text: str) -> list[str]:
    """The policies named, separated by commas. Raises CommandError."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in POLICIES:
            raise CommandError(f"--policy {name} is not known; choose {', '.join(POLICIES)}")
    return names


def _workload(arguments: Namespace) -> list[Job]:
    most = arguments.requests
    if most is not None and most < 1:
        raise CommandError(f"--requests must be at least 1, got {most}")
    if arguments.trace:
        return load_trace(arguments.trace, most)
    if arguments.workload not in KINDS:
        known = ", ".join(KINDS)
        raise CommandError(f"--workload {arguments.workload} is not known; choose {known}")
    return made_up(arguments.workload, most or DEFAULT_JOBS, Random(arguments.seed))


def said(jobs: Sequence[Job], workers: int, settings: SimSettings, seed: int) -> str:
    """Under which conditions the figures hold."""
    costs_said = (
        f"step {settings.base_ms:g} ms + {settings.prefill_us:g} µs a prompt token"
        f" + {settings.decode_us:g} µs a decode"
    )
    rate = arrivals_per_s(jobs)
    arriving = "all at once" if rate == float("inf") else f"at {rate:.2f}/s"
    return (
        f"{len(jobs)} requests {arriving} on {workers} workers of"
        f" {settings.capacity_blocks} blocks; {costs_said}; seed {seed}; times in seconds"
    )


def table(rows: Sequence[Summary]) -> Table:
    """One row a policy."""
    shown = Table(box=None)
    for number, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*cells(row))
    return shown
