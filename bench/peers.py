"""The peers' published formulas as policies, to compare with. Not part of the product. Pure.

Each reads the same candidates as ours: exact cached tokens, and the scheduler's own books. So
what differs is the formula alone. Where a peer's own inputs are worse than these (a polled load,
an approximate tree), it is given the better ones.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from services.scheduler.candidates import Candidates
from services.scheduler.facts import Key, Request
from services.scheduler.fleet import Floats, Ints
from services.scheduler.placement import Chance, Policy, least

BALANCE_ABS = 32
BALANCE_REL = 1.1
QUEUE_WEIGHT, KV_WEIGHT, PREFIX_WEIGHT = 2.0, 2.0, 3.0


@dataclass(slots=True)
class CacheAware:
    """smg's `cache_aware` with KV events: the longest prefix, unless loads are out of balance.

    Defaults of its library: out of balance when the loads differ by more than 32 requests and
    by more than a factor of 1.1; then the least loaded, and affinity counts for nothing. Its
    KV usage thresholds are off by default. Ties: the lower load, then the smaller tree, for
    which the order by id stands here.
    """

    name: str = "smg cache_aware"
    prices_waiting: bool = False

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The longest prefix, or the least load."""
        loads = candidates.requests
        most, fewest = int(loads.max()), int(loads.min())
        if most - fewest > BALANCE_ABS and most > BALANCE_REL * fewest:
            return int(np.argmin(loads))
        return least(-candidates.cached_tokens, loads)


class HeldBlocks:
    """The KV blocks that placed requests hold on each worker; shared ones count once.

    The last block of a prompt, which is not full, counts as one that nobody shares; an answer's
    blocks are left out.
    """

    def __init__(self) -> None:
        self._counts: dict[int, Counter[int]] = defaultdict(Counter)
        self._open: dict[int, int] = defaultdict(int)
        self._held: dict[Key, tuple[int, tuple[int, ...]]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._held and not any(self._counts.values()) and not any(self._open.values())

    def place(self, slot: int, request: Request) -> None:
        """A request goes to the worker in this slot."""
        self._held[request.key] = (slot, request.block_hashes)
        self._counts[slot].update(request.block_hashes)
        self._open[slot] += 1

    def ended(self, key: Key) -> None:
        """A request ended."""
        slot, blocks = self._held.pop(key)
        self._open[slot] -= 1
        counts = self._counts[slot]
        for block in blocks:
            counts[block] -= 1
            if not counts[block]:
                del counts[block]

    def blocks(self, candidates: Candidates) -> Ints:
        """What each worker holds now."""
        slots = candidates.roster.slots.tolist()
        return np.array([len(self._counts[slot]) + self._open[slot] for slot in slots])

    def more(self, request: Request, candidates: Candidates) -> Ints:
        """What the request would add on each worker."""
        asked, slots = request.block_hashes, candidates.roster.slots.tolist()
        held = (self._counts[slot] for slot in slots)
        return np.array([1 + sum(block not in counts for block in asked) for counts in held])


@dataclass(slots=True)
class DynamoCost:
    """Dynamo's KV router at its defaults: prefill blocks less the overlap, and decode blocks.

    prefill: blocks that placed requests still have to compute, and this request's that are not
    cached. decode: blocks that all requests hold there, and those that this one would add. The
    least sum wins, and a tie is drawn, as by Dynamo's reservoir.
    """

    rng: Chance
    name: str = "dynamo kv cost"
    prices_waiting: bool = False
    held: HeldBlocks = field(default_factory=HeldBlocks)

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The least cost in blocks."""
        tokens = candidates.queued_tokens + candidates.uncached_tokens
        decode = self.held.blocks(candidates) + self.held.more(request, candidates)
        cost = tokens / request.block_size + decode
        row = _one_of(np.flatnonzero(cost == cost.min()), self.rng)
        self.held.place(int(candidates.roster.slots[row]), request)
        return row


@dataclass(slots=True)
class WeightedScorers:
    """llm-d's endpoint picker with its default weights: queue 2, KV usage 2, prefix 3.

    Each score is 0 to 1: the queue's place between the shortest and the longest, the free part
    of the KV cache, and the cached part of the prompt (its precise scorer, all blocks on the
    GPU). The highest sum wins, and a tie is drawn.
    """

    rng: Chance
    name: str = "llm-d weighted"
    prices_waiting: bool = False
    held: HeldBlocks = field(default_factory=HeldBlocks)

    def choose(self, request: Request, candidates: Candidates, ttft_s: Floats) -> int:
        """The highest weighted score."""
        capacity = candidates.roster.cache_tokens / request.block_size
        score = (
            QUEUE_WEIGHT * _shorter(candidates.waiting)
            + KV_WEIGHT * np.maximum(1 - self.held.blocks(candidates) / capacity, 0)
            + PREFIX_WEIGHT * candidates.cached_tokens / request.prompt_tokens
        )
        row = _one_of(np.flatnonzero(score == score.max()), self.rng)
        self.held.place(int(candidates.roster.slots[row]), request)
        return row


PEERS: dict[str, Callable[[Chance], Policy]] = {
    "smg cache_aware": lambda rng: CacheAware(),
    "dynamo kv cost": DynamoCost,
    "llm-d weighted": WeightedScorers,
}


def hears_ends(policy: Policy) -> Callable[[Key], None] | None:
    """What to call when a request ends, for a policy that keeps its own books."""
    return policy.held.ended if isinstance(policy, (DynamoCost, WeightedScorers)) else None


def _shorter(queues: Ints) -> Floats:
    """1 for the shortest queue, 0 for the longest; 1 for all when they are equal."""
    longest, shortest = queues.max(), queues.min()
    if longest == shortest:
        return np.ones(len(queues))
    scores: Floats = (longest - queues) / (longest - shortest)
    return scores


def _one_of(rows: Ints, rng: Chance) -> int:
    return int(rows[rng.randrange(len(rows))])
