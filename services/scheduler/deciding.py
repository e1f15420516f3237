"""Filter, score, pick: which worker a request goes to, or why to none. Pure; writes nothing."""

from dataclasses import dataclass

import numpy as np

from services.scheduler.candidates import Candidates, Filter, Floats
from services.scheduler.decisions import Considered
from services.scheduler.facts import Pool, Request
from services.scheduler.fleet import Fleet, Ints
from services.scheduler.outcomes import (
    DeadlinePassed,
    Decision,
    FleetEmpty,
    Placed,
    TooLarge,
    TurnedAway,
    UnknownModel,
    Waiting,
)
from services.scheduler.placement import Policy, predicted_ttft_s
from services.scheduler.rates import Rates

REJOIN_S = 1.0
"""When to come again for a pool without workers: a worker joins again within a second."""
CONSIDERED_KEPT = 8
"""Candidates that a decision record keeps."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The worker in this slot; what the caller is told, and who else was considered."""

    slot: int
    placed: Placed
    considered: tuple[Considered, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Waiting for the worker in this slot, for so long, costs less than another worker does."""

    slot: int
    uncached_tokens: int
    wait_s: float


class Deciding:
    """The policy, with what it may know."""

    def __init__(self, policy: Policy, fleet: Fleet, rates: Rates, known: Filter) -> None:
        self._policy = policy
        self._fleet = fleet
        self._rates = rates
        self._filter = known

    def decide(
        self, request: Request, now_s: float, promised: Ints
    ) -> Chosen | Hold | Waiting | TurnedAway:
        """Filter, score, pick. `promised` are tokens, by slot, of those who wait ahead of it."""
        if request.deadline_s is not None and request.deadline_s <= now_s:
            return DeadlinePassed(now_s - request.arrived_s)
        allowed = self._filter.allowed(request)
        if not len(allowed):
            return self._nobody(request.pool)
        fitting = self._filter.fitting(request, allowed)
        if isinstance(fitting, TooLarge):
            return fitting
        open_ = self._filter.below_max_running(fitting)
        if not len(open_):
            return Waiting()
        return self._choose(
            request, self._filter.candidates(request, open_, now_s, promised), now_s
        )

    def has_room(self, pool: Pool, now_s: float) -> bool:
        """Whether who waits for the pool may get an answer now."""
        everybody = self._fleet.open_pool(pool).roster
        roster = self._filter.below_max_running(everybody)
        if not self._policy.prices_waiting or not len(roster):
            # Who waits for a pool that is empty now is turned away.
            return len(roster) > 0 or not len(everybody)
        ahead = self._filter.tokens_ahead(roster, now_s)
        return bool((ahead < roster.step_budget_tokens).any())

    def _choose(
        self, request: Request, candidates: Candidates, now_s: float
    ) -> Chosen | Hold | DeadlinePassed:
        ttft_s = predicted_ttft_s(candidates)
        row = self._policy.choose(request, candidates, ttft_s)
        slot = int(candidates.roster.slots[row])
        wait_s = candidates.wait_s(row) if self._policy.prices_waiting else 0.0
        if wait_s > 0.0:
            if request.deadline_s is not None and request.deadline_s < now_s + wait_s:
                return DeadlinePassed(now_s - request.arrived_s)
            return Hold(slot, int(candidates.uncached_tokens[row]), wait_s)
        waited_s = now_s - request.arrived_s
        decision = Decision(
            self._policy.name,
            len(candidates),
            int(candidates.queued_tokens[row]),
            waited_s + float(ttft_s[row]) if self._rates.known[slot] else None,
        )
        placed = self._placed(slot, int(candidates.cached_tokens[row]), decision, waited_s)
        return Chosen(slot, placed, self._considered(candidates, ttft_s))

    def _considered(self, candidates: Candidates, ttft_s: Floats) -> tuple[Considered, ...]:
        """The candidates with the least predicted time, for the record."""
        few = len(candidates) <= CONSIDERED_KEPT
        best = slice(None) if few else np.argpartition(ttft_s, CONSIDERED_KEPT)[:CONSIDERED_KEPT]
        columns = (
            candidates.roster.slots,
            candidates.cached_tokens,
            candidates.queued_tokens,
            candidates.requests,
            ttft_s,
        )
        rows = zip(*(column[best].tolist() for column in columns), strict=True)
        return tuple(Considered(self._fleet.in_slot(slot).id, *figures) for slot, *figures in rows)

    def _nobody(self, pool: Pool) -> UnknownModel | FleetEmpty:
        # Before any worker has joined nothing is known, and unknown is not "no".
        names = self._fleet.model_names()
        if names and not self._fleet.has_seen(pool):
            return UnknownModel(pool, names)
        return FleetEmpty(pool, REJOIN_S)

    def _placed(self, slot: int, cached_tokens: int, decision: Decision, waited_s: float) -> Placed:
        hello = self._fleet.in_slot(slot).hello
        return Placed(
            hello.worker_id, hello.address, hello.epoch, cached_tokens, waited_s, decision
        )
