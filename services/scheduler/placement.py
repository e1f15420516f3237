"""Score and pick: the placement policies. Pure.

Candidates are ordered by id, so the first of equals breaks a tie. Time and chance are arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.scheduler.candidates import Candidates
from services.scheduler.facts import Pool, Request
from services.scheduler.fleet import Floats, Ints

HASHED_TOKENS = 256
"""`prefix_hash` keeps together the prompts that agree in so many tokens."""
PAUSE = 0.1
"""What a second's pause in an answer weighs against a second's wait for one: it is being read."""
BOUND = 1.25
"""`prefix_hash` passes over a worker with more than so many times the mean load."""


class Chance(Protocol):
    """As much of `random.Random` as is needed."""

    def randrange(self, stop: int, /) -> int:
        """Any of 0 to `stop` - 1."""


class Policy(Protocol):
    """A way to choose. `name` is the setting's value."""

    name: str
    prices_waiting: bool
    """Whether it chooses among full workers too, and a request then waits for the one chosen."""

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The row of the chosen worker; there is at least one.

        `ttft_s` is the predicted time to first token on each.
        """


@dataclass(slots=True)
class Predicted:
    """The least cost in seconds: the predicted time to first token, and what the placement
    costs the others."""

    name: str = "predicted"
    prices_waiting: bool = True

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The cheapest worker."""
        return int((ttft_s + externality_s(candidates)).argmin())


@dataclass(slots=True)
class LeastLoad:
    """The fewest requests, then the fewest tokens before the first token."""

    name: str = "least_load"
    prices_waiting: bool = False

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The least loaded worker."""
        return least(candidates.requests, candidates.queued_tokens)


@dataclass(slots=True)
class PrefixHash:
    """Consistent hashing of the prompt's beginning, with bounded loads.

    Each worker draws a number from the prefix and its own id; the highest whose load is under
    the bound takes the request (rendezvous hashing: no ring to keep).
    """

    name: str = "prefix_hash"
    prices_waiting: bool = False

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The first worker in the prefix's own order that is not overloaded."""
        if not request.block_hashes:  # nothing worth keeping together
            return int(np.argmin(candidates.requests))
        blocks = max(1, HASHED_TOKENS // request.block_size)
        prefix = request.block_hashes[:blocks][-1]
        draws = _mixed(candidates.roster.seeds ^ np.uint64(prefix))
        # The request counts too: the bound is at least 1, and the mean is under its bound.
        bound = np.ceil(BOUND * (candidates.requests.sum() + 1) / len(candidates))
        under = np.flatnonzero(candidates.requests < bound)
        return int(under[np.argmax(draws[under])])


@dataclass(slots=True)
class RoundRobin:
    """In turn, by id."""

    name: str = "round_robin"
    prices_waiting: bool = False
    _turns: dict[Pool, int] = field(default_factory=dict)

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The next worker of the pool."""
        turn = self._turns.get(request.pool, 0)
        self._turns[request.pool] = turn + 1
        return turn % len(candidates)


@dataclass(slots=True)
class ByChance:
    """Any worker."""

    rng: Chance
    name: str = "random"
    prices_waiting: bool = False

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """Each worker is as likely as the others."""
        return self.rng.randrange(len(candidates))


POLICIES: dict[str, Callable[[Chance], Policy]] = {
    "predicted": lambda rng: Predicted(),
    "least_load": lambda rng: LeastLoad(),
    "prefix_hash": lambda rng: PrefixHash(),
    "round_robin": lambda rng: RoundRobin(),
    "random": ByChance,
}


def predicted_ttft_s(candidates: Candidates) -> Floats:
    """Seconds to the first token: the work ahead, its own prefill, and the steps' own time."""
    tokens = candidates.tokens_before + candidates.uncached_tokens
    steps = np.ceil(tokens / candidates.roster.step_budget_tokens)
    # Who is ahead of it decodes by the time that it is computed.
    step_s = candidates.step_s + candidates.step_s_per_decode * candidates.requests
    ttft_s: Floats = tokens * candidates.prefill_s_per_token + steps * step_s
    ttft_s += candidates.load_s + candidates.memory_s
    return ttft_s


def externality_s(candidates: Candidates) -> Floats:
    """Seconds that the others wait longer, for a placement on each worker.

    For their first token: its prefill of x seconds, behind u seconds of work, delays whoever
    comes before that queue is empty again. They come at a rate λ and bring work themselves
    (utilisation r), so the sum of their delays is λ / (1 - r) · x · (u + x / 2): one step of
    policy iteration from random dispatching, an M/G/1 queue at each worker (Hyytiä, Penttinen
    and Aalto, "Size- and state-aware dispatching problem with queue-specific job sizes",
    European Journal of Operational Research 217, 2012).

    For their later tokens: its prefill stops all answers there, and each of its decodes
    lengthens their steps.

    A tenant that is owed pays for none of that: whoever it delays has had more than it.
    """
    if candidates.owed:
        return np.zeros(len(candidates))
    prefill_s = candidates.uncached_tokens * candidates.prefill_s_per_token
    ahead_s = candidates.tokens_before * candidates.prefill_s_per_token
    later_s = candidates.demand.delayed_per_s * prefill_s * (ahead_s + prefill_s / 2)
    decode_s = candidates.answer_tokens * candidates.step_s_per_decode
    decoding = candidates.requests - candidates.waiting
    pauses_s = prefill_s * decoding + decode_s * candidates.requests
    cost_s: Floats = later_s + PAUSE * pauses_s
    return cost_s


def least(first: Ints, second: Ints) -> int:
    """The row with the least first key, and of those the least second."""
    rows = np.flatnonzero(first == first.min())
    return int(rows[np.argmin(second[rows])])


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # The finalizer of splitmix64: every bit of the input moves half of the output's.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
