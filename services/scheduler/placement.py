"""Score and pick: the placement policies. Pure.

All break ties by the workers' ids. Time and chance are arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.scheduler.candidates import Candidates, Floats, Ints
from services.scheduler.facts import Pool, Request

HASHED_TOKENS = 256
"""`prefix_hash` keeps together the prompts that agree in so many tokens."""
BOUND = 1.25
"""`prefix_hash` passes over a worker with more than so many times the mean load."""


class Chance(Protocol):
    """As much of `random.Random` as is needed."""

    def randrange(self, stop: int, /) -> int:
        """Any of 0 to `stop` - 1."""


class Policy(Protocol):
    """A way to choose. `name` is the setting's value."""

    name: str

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The row of the chosen worker; there is at least one.

        `ttft_s` is the predicted time to first token on each.
        """


@dataclass(slots=True)
class Predicted:
    """The least cost in seconds: the predicted time to first token, and what everybody behind
    pays for tokens that this placement computes again."""

    name: str = "predicted"

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The cheapest worker."""
        own_s = candidates.uncached_tokens * candidates.prefill_s_per_token
        return least(candidates.rank, ttft_s + own_s * delayed(candidates))


@dataclass(slots=True)
class LeastLoad:
    """The fewest requests, then the fewest tokens before the first token."""

    name: str = "least_load"

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The least loaded worker."""
        return least(candidates.rank, candidates.requests, candidates.queued_tokens)


@dataclass(slots=True)
class PrefixHash:
    """Consistent hashing of the prompt's beginning, with bounded loads.

    Each worker draws a number from the prefix and its own id; the highest whose load is under
    the bound takes the request (rendezvous hashing: no ring to keep).
    """

    name: str = "prefix_hash"

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The first worker in the prefix's own order that is not overloaded."""
        if not request.block_hashes:  # nothing worth keeping together
            return least(candidates.rank, candidates.requests)
        blocks = max(1, HASHED_TOKENS // request.block_size)
        prefix = request.block_hashes[:blocks][-1]
        draws = _mixed(candidates.seed ^ np.uint64(prefix))
        # The request counts too: the bound is at least 1, and the mean is under its bound.
        bound = np.ceil(BOUND * (candidates.requests.sum() + 1) / len(candidates))
        under = np.flatnonzero(candidates.requests < bound)
        return int(under[np.argmax(draws[under])])


@dataclass(slots=True)
class RoundRobin:
    """In turn, by id."""

    name: str = "round_robin"
    _turns: dict[Pool, int] = field(default_factory=dict)

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The next worker of the pool."""
        turn = self._turns.get(request.pool, 0)
        self._turns[request.pool] = turn + 1
        return int(np.argsort(candidates.rank)[turn % len(candidates)])


@dataclass(slots=True)
class ByChance:
    """Any worker."""

    rng: Chance
    name: str = "random"

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """Each worker is as likely as the others."""
        return int(np.argsort(candidates.rank)[self.rng.randrange(len(candidates))])


POLICIES: dict[str, Callable[[Chance], Policy]] = {
    "predicted": lambda rng: Predicted(),
    "least_load": lambda rng: LeastLoad(),
    "prefix_hash": lambda rng: PrefixHash(),
    "round_robin": lambda rng: RoundRobin(),
    "random": ByChance,
}


def predicted_ttft_s(candidates: Candidates) -> Floats:
    """Seconds to the first token: the work ahead, its own prefill, and the steps' own time."""
    tokens = _queued_tokens(candidates) + candidates.uncached_tokens
    steps = -(-tokens // candidates.step_budget_tokens)
    decoding = candidates.requests - np.minimum(candidates.waiting, candidates.requests)
    step_s = candidates.step_s + candidates.step_s_per_decode * decoding
    ttft_s: Floats = tokens * candidates.prefill_s_per_token + steps * step_s
    return ttft_s


def delayed(candidates: Candidates) -> float:
    """How many requests a second of prefill delays: the mean number that wait at a worker.

    Work added to a queue delays everybody who comes before it is empty again. For one server
    with random arrivals at utilisation r those are r / (1 - r) for each unit of work, which is
    also the mean number in the system: so it is counted, not computed from an estimated r.
    """
    return float(candidates.waiting.sum()) / len(candidates)


def least(rank: Ints, *keys: Ints | Floats) -> int:
    """The row with the least first key, then the least second and so on, then the first id."""
    rows: Ints | None = None
    for key in keys:
        part = key if rows is None else key[rows]
        best = np.flatnonzero(part == part.min())
        rows = best if rows is None else rows[best]
        if len(rows) == 1:
            return int(rows[0])
    return int(np.argmin(rank)) if rows is None else int(rows[np.argmin(rank[rows])])


def _queued_tokens(candidates: Candidates) -> Ints:
    # Unknown is not zero: beside what was placed on it since, a worker that has not reported
    # is taken to be as busy as the busiest that has.
    queued = candidates.queued_tokens
    if candidates.reported.all() or not candidates.reported.any():
        return queued
    busiest = queued[candidates.reported].max()
    return np.where(candidates.reported, queued, queued + busiest)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # The finalizer of splitmix64: every bit of the input moves half of the output's.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
