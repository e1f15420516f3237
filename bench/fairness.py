"""A tenant that floods at ten times its share, and a light one beside it, as rows of markdown.

`python -m bench.fairness virtual|product [--workers N] [--seconds N] [--flood N] [--seed N]`

Four runs: the light tenant alone, beside the flood with each tenant known, beside it with both
under one name (first come, first served: what fairness costs in hits shows against this), and the
flood alone. Each tenant has system prompts of its own. A share is half of the capacity; the light
tenant asks for a tenth of the capacity, the flood for `--flood` shares.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from random import Random

import httpx

from bench.asking import Answer, chat, client, counted
from command.simulate import H100, load_trace
from command.simulation.capacity import capacity_per_s
from command.simulation.results import percentile
from command.simulation.virtual import Fleet
from command.simulation.workload import BLOCK_TOKENS, Job
from services.scheduler.placement import POLICIES
from services.worker.sim_core import read_settings
from tests.system import System, system

Source = Callable[[str, float, float, Random], list[Job]]
LIGHT, HEAVY = "light", "heavy"
SHARE = 0.5
LIGHT_LOAD = 0.1
"""Parts of the capacity."""
SYSTEM_PROMPTS = 8
"""Of each tenant."""
SYSTEM_BLOCKS = 4
OUTPUT_TOKENS = 32
WARM_S = 2.0
"""What comes before, while caches are cold, is not counted."""

# Product: 2 workers whose 8 requests take (32 steps · 25 ms) and a prefill of about 20 ms each.
SIM = "base_ms=25,prefill_us=100,decode_us=100,budget=2048,max_running=8,block_size=16"
PRODUCT_CAPACITY_PER_S = 16.0
TENANTS = (
    '{"tenants": [{"name": "light", "keys": ["light"]}, {"name": "heavy", "keys": ["heavy"]}]}'
)
REPORTED_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """One of the runs: which tenants ask, and whether the scheduler can tell them apart."""

    name: str
    tenants: tuple[str, ...]
    told_apart: bool = True


LOADS = (
    Load("light alone", (LIGHT,)),
    Load("light beside the flood", (LIGHT, HEAVY)),
    Load("both under one name", (LIGHT, HEAVY), told_apart=False),
    Load("the flood alone", (HEAVY,)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one run came to."""

    ttfts_s: dict[str, list[float]]
    refused: dict[str, int]
    hit_rate: float


def main() -> int:
    """Print the rows."""
    arguments = _arguments()
    rows = _virtual(arguments) if arguments.where == "virtual" else _product(arguments)
    print("| run | light TTFT p50 | p99 | heavy p50 | p99 | refused | hit rate |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for load, row in zip(LOADS, rows, strict=True):
        times = [_time(row.ttfts_s.get(each, []), p) for each in (LIGHT, HEAVY) for p in (50, 99)]
        refused = sum(row.refused.values())
        print(f"| {load.name} | {' | '.join(times)} | {refused} | {row.hit_rate:.1%} |", flush=True)
    alone, beside = (percentile(sorted(row.ttfts_s[LIGHT]), 99) for row in rows[:2])
    print(f"\nThe light tenant's p99 beside the flood is {beside / alone:.2f} times its own alone.")
    return 0


def _time(ttfts_s: Sequence[float], percent: int) -> str:
    return f"{percentile(sorted(ttfts_s), percent):.3f} s" if ttfts_s else ""


def _arrivals(rate_per_s: float, seconds: float, chance: Random) -> list[float]:
    times: list[float] = []
    now_s = chance.expovariate(rate_per_s)
    while now_s < seconds:
        times.append(now_s)
        now_s += chance.expovariate(rate_per_s)
    return times


def _rates(capacity_per_s: float, flood: float) -> dict[str, float]:
    return {LIGHT: LIGHT_LOAD * capacity_per_s, HEAVY: flood * SHARE * capacity_per_s}


def _virtual(arguments: argparse.Namespace) -> list[Row]:
    settings = read_settings(
        f"{H100},block_size={BLOCK_TOKENS},capacity_blocks=1500,{arguments.sim}"
    )
    source: Source = _jobs
    if arguments.trace:
        source = FromTrace(load_trace(arguments.trace, None))
    sample = source(HEAVY, 10.0, 100.0, Random(arguments.seed))
    capacity = capacity_per_s(sample, arguments.workers, settings)
    rates = _rates(capacity, arguments.flood)
    print(f"{arguments.workers} workers, capacity {capacity:.1f}/s, {arguments.seconds:g} s\n")
    rows = []
    for load in LOADS:
        made = [
            job
            for tenant in load.tenants
            for job in source(tenant, rates[tenant], arguments.seconds, Random(arguments.seed))
        ]
        jobs = sorted(made, key=lambda job: job.arrival_s)
        whose = {id(job.blocks): job.tenant for job in jobs}
        if not load.told_apart:
            jobs = [replace(job, tenant="") for job in jobs]
        policy = POLICIES[arguments.policy](Random(arguments.seed))
        served = Fleet(policy, arguments.workers, settings, jobs).run()
        ttfts: dict[str, list[float]] = {}
        for each in served:
            if each.job.arrival_s >= WARM_S:
                ttfts.setdefault(whose[id(each.job.blocks)], []).append(each.ttft_s)
        prompts = sum(each.job.prompt_tokens for each in served)
        rows.append(Row(ttfts, {}, sum(each.cached_tokens for each in served) / prompts))
    return rows


@dataclass(frozen=True, slots=True)
class FromTrace:
    """A tenant's jobs are a trace's in its order, at random times; no two share a block."""

    trace: Sequence[Job]

    def __call__(self, tenant: str, rate_per_s: float, seconds: float, chance: Random) -> list[Job]:
        """The tenant's jobs. The trace begins again when it is over."""
        own = Random(f"{tenant} {chance.random()}")
        salt = own.getrandbits(63)
        times = _arrivals(rate_per_s, seconds, own)
        return [
            replace(job, arrival_s=at_s, blocks=tuple(b ^ salt for b in job.blocks), tenant=tenant)
            for at_s, job in zip(times, cycle(self.trace), strict=False)
        ]


def _jobs(tenant: str, rate_per_s: float, seconds: float, chance: Random) -> list[Job]:
    # Equal seeds give a tenant the same jobs in every run; another tenant has other blocks.
    own = Random(f"{tenant} {chance.random()}")
    systems = [[own.getrandbits(63) for _ in range(SYSTEM_BLOCKS)] for _ in range(SYSTEM_PROMPTS)]
    jobs = []
    for arrival_s in _arrivals(rate_per_s, seconds, own):
        fresh = [own.getrandbits(63) for _ in range(own.randrange(1, 4))]
        blocks = (*own.choice(systems), *fresh)
        tokens = len(blocks) * BLOCK_TOKENS + own.randrange(1, BLOCK_TOKENS)
        jobs.append(Job(arrival_s, tokens, OUTPUT_TOKENS, blocks, tenant))
    return jobs


def _product(arguments: argparse.Namespace) -> list[Row]:
    print(f"2 workers, capacity about {PRODUCT_CAPACITY_PER_S:g}/s, {arguments.seconds:g} s\n")
    rows = []
    for load in LOADS:
        with tempfile.TemporaryDirectory() as home:
            tenants = Path(home) / "tenants.json"
            tenants.write_text(TENANTS)
            flags = ("--engine", "sim", "--sim", SIM, "--tenants", str(tenants))
            with system(Path(home), *flags, "--policy", arguments.policy) as running:
                rows.append(asyncio.run(_ask_all(running, load, arguments)))
    return rows


async def _ask_all(running: System, load: Load, arguments: argparse.Namespace) -> Row:
    rates = _rates(PRODUCT_CAPACITY_PER_S, arguments.flood)
    scheduler = running.address("scheduler")
    answers: dict[str, list[Answer]] = {tenant: [] for tenant in load.tenants}
    async with client(running.url) as http:
        asking = []
        for tenant in load.tenants:
            chance = Random(f"{tenant} {arguments.seed}")
            times = _arrivals(rates[tenant], arguments.seconds, chance)
            key = tenant if load.told_apart else HEAVY
            asking.append(
                asyncio.create_task(_ask_tenant(http, tenant, key, times, answers[tenant]))
            )
        # The first of the tenants is the one that is measured: when it has all, the flood's
        # queue need not be worked off.
        await asking[0]
        for task in asking[1:]:
            task.cancel()
        await asyncio.wait(asking)
    await asyncio.sleep(REPORTED_S)
    after = counted(scheduler).values()
    hit_rate = sum(each.found for each in after) / sum(each.asked for each in after)
    ttfts = {
        tenant: [each.ttft_s for each in given if each.ttft_s is not None]
        for tenant, given in answers.items()
    }
    refused = {
        tenant: sum(1 for each in given if each.status != 200) for tenant, given in answers.items()
    }
    return Row(ttfts, refused, hit_rate)


async def _ask_tenant(
    http: httpx.AsyncClient, tenant: str, key: str, times: Sequence[float], answers: list[Answer]
) -> None:
    chance = Random(tenant)
    systems = [_words(chance, 60) for _ in range(SYSTEM_PROMPTS)]

    async def ask(content: str) -> None:
        messages = [
            {"role": "system", "content": chance.choice(systems)},
            {"role": "user", "content": content},
        ]
        answer = await chat(http, messages, OUTPUT_TOKENS, key)
        if time.perf_counter() - begun_s >= WARM_S:
            answers.append(answer)

    begun_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for arrival_s in times:
            await asyncio.sleep(begun_s + arrival_s - time.perf_counter())
            group.create_task(ask(_words(chance, 30)))


def _words(chance: Random, words: int) -> str:
    return " ".join(chance.choice(("time", "year", "people", "way", "day")) for _ in range(words))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("where", choices=("virtual", "product"))
    parser.add_argument("--workers", type=int, default=8, help="of the virtual fleet")
    parser.add_argument("--seconds", type=float, default=30.0, help="that the tenants ask for")
    parser.add_argument("--flood", type=float, default=10.0, help="times the heavy one's share")
    parser.add_argument("--policy", default="predicted", choices=tuple(POLICIES))
    parser.add_argument("--sim", default="", metavar="KEY=VALUE,…", help="virtual step costs")
    parser.add_argument(
        "--trace", metavar="FILE", help="virtual: a Mooncake trace for both tenants"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
