"""How many placements a second one scheduler makes for a thousand workers, as rows of markdown.

`python -m bench.placing core [--workers N] [--placements N] [--seed N] [--profile]`
`python -m bench.placing wire [--workers N] [--placements N] [--seed N] [--heartbeat-ms N]`

`core` calls the scheduler's core in this process. `wire` starts a scheduler and a fleet of
workers, each in a process of its own, and sends batches as an edge does. Prompts are 4,096 tokens.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import uvloop

from bench import wired
from bench.warm import BLOCK_TOKENS, MAX_TOKENS, MODEL, PROMPT_TOKENS, Blocks, WarmFleet
from services.scheduler.accounts import Ended
from services.scheduler.facts import (
    Hello,
    Key,
    Kind,
    KvChange,
    Pool,
    PrefillTiming,
    Report,
    Request,
)
from services.scheduler.outcomes import Placed
from services.scheduler.placement import POLICIES
from services.scheduler.scheduler import Bounds, Scheduler

IN_FLIGHT = 2
"""Placements of a worker that are not finished, in the mean."""
POOL = Pool(MODEL, "", Kind.GENERATE)
BATCHES = (1, 4, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the core came to."""

    place_us: Sequence[float]
    busy_s: float
    """For all placements and their ends."""


def main() -> int:
    """Print the rows."""
    arguments = _arguments()
    if arguments.what == "core":
        _core(arguments)
    else:
        fleet = WarmFleet(arguments.workers, arguments.seed)
        prompts = list(fleet.prompts(arguments.placements))
        settings = wired.Settings(arguments.workers, arguments.seed, arguments.heartbeat_ms)
        uvloop.run(_wire(prompts, settings))
    return 0


def _core(arguments: argparse.Namespace) -> None:
    fleet = WarmFleet(arguments.workers, arguments.seed)
    core = warm_core(fleet, arguments.seed)
    index = core.index
    print(f"{arguments.workers} workers; {index.blocks:,} blocks, {index.entries:,} entries")
    requests = [_request(n, blocks) for n, blocks in enumerate(fleet.prompts(arguments.placements))]
    place_all(core, requests[: len(requests) // 10], arguments.workers)  # code and caches are warm
    profile = cProfile.Profile() if arguments.profile else None
    if profile:
        profile.enable()
    run = place_all(core, requests[len(requests) // 10 :], arguments.workers)
    if profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    p50, p99, longest = np.percentile(run.place_us, (50, 99, 100))
    print("\n| placements | placements/s of one core | place p50 | p99 | longest |")
    print("|---:|---:|---:|---:|---:|")
    count = len(run.place_us)
    print(
        f"| {count:,} | {count / run.busy_s:,.0f} | {p50:.0f} µs | {p99:.0f} µs"
        f" | {longest / 1e3:.2f} ms |"
    )


def warm_core(fleet: WarmFleet, seed: int) -> Scheduler:
    """A scheduler's core to which a warm fleet has joined."""
    core = Scheduler(POLICIES["predicted"](Random(seed)), float("inf"), Bounds())
    timing = PrefillTiming(request_id="", computed_tokens=2048, prefill_us=80_000)
    report = Report(prefills=(timing,), steps=100, step_time_us=800_000, generated_tokens=100)
    for number, cache in enumerate(fleet.caches):
        member = core.join(_hello(number), 0.0)
        core.change(member, KvChange(sequence=0, snapshot=True, stored=tuple(cache)), 0.0)
        core.report(member, report, 0.0)
    return core


def place_all(core: Scheduler, requests: Sequence[Request], workers: int) -> Run:
    """Place one after the other; so many are in flight that each worker has `IN_FLIGHT`."""
    open_keys: deque[Key] = deque()
    place_us: list[float] = []
    begun_s = time.process_time()
    for request in requests:
        asked_s = time.perf_counter()
        outcome = core.place(request, asked_s)
        place_us.append((time.perf_counter() - asked_s) * 1e6)
        assert isinstance(outcome, Placed)
        open_keys.append(request.key)
        if len(open_keys) > IN_FLIGHT * workers:
            core.finish(open_keys.popleft(), asked_s, Ended(0.1, MAX_TOKENS, MAX_TOKENS))
    for key in open_keys:
        core.finish(key, asked_s, Ended(0.1, MAX_TOKENS, MAX_TOKENS))
    return Run(place_us, time.process_time() - begun_s)


async def _wire(prompts: Sequence[Blocks], settings: wired.Settings) -> None:
    async with wired.system(settings) as scheduler:
        print(f"{settings.workers} workers, a report each {settings.heartbeat_ms / 2:g} ms")
        print("\n| batch | placements/s | scheduler CPU, µs a placement | answered p50 | p99 |")
        print("|---:|---:|---:|---:|---:|")
        idle = await scheduler.idle_cores(3.0)
        for batch in BATCHES:
            count = min(len(prompts), max(400, batch * 60))
            print(_row(f"{batch}", await scheduler.drive(prompts[:count], batch)), flush=True)
        for clients in (64, 256):
            run = await scheduler.drive_as_edge(prompts, clients)
            print(_row(f"edge, {clients} at once", run), flush=True)
        print(f"\nscheduler: {scheduler.joined_cpu_s:.1f} s of CPU until all had joined")
        print(f"with reports alone: {idle:.2f} of a core")


def _row(name: str, run: wired.Run) -> str:
    p50, p99 = np.percentile(run.answered_ms, (50, 99))
    return (
        f"| {name} | {run.placements / run.wall_s:,.0f}"
        f" | {run.cpu_s / run.placements * 1e6:.0f} | {p50:.2f} ms | {p99:.2f} ms |"
    )


def _hello(number: int) -> Hello:
    return Hello(
        worker_id=f"worker-{number:04d}",
        address=f"worker-{number:04d}:1",
        epoch=1,
        kind=Kind.GENERATE,
        models=(MODEL,),
        block_size=BLOCK_TOKENS,
        capacity_blocks=8192,
        max_running=64,
        step_budget_tokens=8192,
        max_model_tokens=65_536,
    )


def _request(number: int, blocks: Blocks) -> Request:
    return Request(
        key=Key(1, str(number)),
        pool=POOL,
        prompt_tokens=PROMPT_TOKENS,
        max_tokens=MAX_TOKENS,
        block_hashes=blocks,
        block_size=BLOCK_TOKENS,
        tenant=f"tenant-{number % 16}",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.placing", description=__doc__)
    parser.add_argument("what", choices=("core", "wire"))
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--placements", type=int, default=20_000)
    parser.add_argument("--heartbeat-ms", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="of the core")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
