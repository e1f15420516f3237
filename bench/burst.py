"""Equal prompts that come at one instant to idle workers: is the work spread, and how often done?

`python -m bench.burst virtual|product [--requests N] [--workers N] [--policies A,B]`

The ideal is counted in prompts: one computation of the shared blocks a fleet (1.00), or one on
each of the fewest workers that keep the busiest below 1.5 times the mean. What no cache can give,
the tokens after the last full block, is left out on both sides.
"""

import argparse
import asyncio
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.asking import Answer, Counted, chat, client, counted
from command.simulate import H100
from command.simulation.virtual import Fleet
from command.simulation.workload import BLOCK_TOKENS, Job
from services.scheduler.placement import POLICIES
from services.worker.sim_core import read_settings
from tests.system import System, system

BOUND = 1.5
"""The busiest worker's requests over the mean are to stay below this."""
SHARED_BLOCKS = 8
REST_TOKENS = 100
OUTPUT_TOKENS = 64
REPORTED_S = 1.0
WORDS = 400
PRODUCT_BLOCK = 16
SIM = (
    f"base_ms=10,prefill_us=60,decode_us=100,budget=2048,max_running=64,block_size={PRODUCT_BLOCK}"
)


@dataclass(frozen=True, slots=True)
class Burst:
    """How a burst was served."""

    requests: Sequence[int]
    """Of each worker."""
    prompt_tokens: int
    """Of one prompt."""
    shared_tokens: int
    """Of those, in full blocks."""
    prefilled_tokens: int
    """Of all together."""

    @property
    def imbalance(self) -> float:
        """The busiest worker's requests over the mean."""
        return max(self.requests) * len(self.requests) / sum(self.requests)

    @property
    def computations(self) -> float:
        """How often the shared blocks were computed."""
        rest = sum(self.requests) * (self.prompt_tokens - self.shared_tokens)
        return (self.prefilled_tokens - rest) / self.shared_tokens


def fewest_workers(workers: int) -> int:
    """The fewest that can share a burst with the busiest below `BOUND` times the mean."""
    return math.floor(workers / BOUND) + 1


def virtual(policy: str, requests: int, workers: int, seed: int) -> Burst:
    """The scheduler's core over simulated engines, in virtual time."""
    chance = Random(seed)
    blocks = tuple(chance.getrandbits(63) for _ in range(SHARED_BLOCKS))
    prompt_tokens = SHARED_BLOCKS * BLOCK_TOKENS + REST_TOKENS
    jobs = [Job(0.0, prompt_tokens, OUTPUT_TOKENS, blocks) for _ in range(requests)]
    settings = read_settings(f"{H100},block_size={BLOCK_TOKENS},capacity_blocks=1500")
    served = Fleet(POLICIES[policy](Random(seed)), workers, settings, jobs).run()
    counts = Counter(each.worker for each in served)
    prefilled = sum(each.prefilled_tokens for each in served)
    shared = SHARED_BLOCKS * BLOCK_TOKENS
    return Burst([counts[number] for number in range(workers)], prompt_tokens, shared, prefilled)


def product(policy: str, requests: int, workers: int, seed: int) -> Burst:
    """`headway up` with simulated engines, through the edge."""
    with tempfile.TemporaryDirectory() as home:
        flags = ("--engine", "sim", "--workers", str(workers), "--policy", policy, "--sim", SIM)
        with system(Path(home), *flags) as running:
            return asyncio.run(_burst(running, requests, workers, seed))


async def _burst(running: System, requests: int, workers: int, seed: int) -> Burst:
    chance = Random(seed)
    content = " ".join(chance.choice(("time", "year", "day", "world")) for _ in range(WORDS))
    messages = [{"role": "user", "content": content}]
    scheduler = running.address("scheduler")
    before = counted(scheduler)
    async with client(running.url) as http:
        asked = (chat(http, messages, OUTPUT_TOKENS) for _ in range(requests))
        answers: list[Answer] = await asyncio.gather(*asked)
    await asyncio.sleep(REPORTED_S)
    after = counted(scheduler)
    return _counted(answers, workers, before, after)


def _counted(
    answers: Sequence[Answer], workers: int, before: dict[str, Counted], after: dict[str, Counted]
) -> Burst:
    counts = Counter(each.worker for each in answers)
    asked = sum(after[each].asked - before[each].asked for each in after)
    found = sum(after[each].found - before[each].found for each in after)
    prompt_tokens = asked // len(answers)
    shared = (prompt_tokens - 1) // PRODUCT_BLOCK * PRODUCT_BLOCK
    requests = [counts[f"worker-{number}"] for number in range(workers)]
    return Burst(requests, prompt_tokens, shared, asked - found)


def main() -> int:
    """Print the rows."""
    parser = argparse.ArgumentParser(prog="python -m bench.burst", description=__doc__)
    parser.add_argument("where", choices=("virtual", "product"))
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--policies", default="predicted,round_robin,prefix_hash")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = virtual if arguments.where == "virtual" else product
    print(f"the load bound needs {fewest_workers(arguments.workers)} workers\n")
    print(
        "| policy | requests a worker | max/mean | prompt | computed so often | over that ideal |"
    )
    print("|---|---|---:|---:|---:|---:|")
    for policy in arguments.policies.split(","):
        burst = run(policy, arguments.requests, arguments.workers, arguments.seed)
        ideal = fewest_workers(arguments.workers)
        print(
            f"| {policy} | {' '.join(map(str, burst.requests))} | {burst.imbalance:.2f}"
            f" | {burst.prompt_tokens:,} | {burst.computations:.2f}"
            f" | {burst.computations / ideal:.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
