"""Filter, score, pick: which worker a request goes to, or why to none. Pure; writes nothing."""

from dataclasses import dataclass, field

import numpy as np

from services.scheduler.candidates import Candidates, Filter
from services.scheduler.decisions import Figures
from services.scheduler.facts import Pool, Request
from services.scheduler.fleet import SLOTS, Bools, Fleet, Floats, Ints, Roster
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
    considered: Figures


@dataclass(frozen=True, slots=True)
class Hold:
    """Waiting for the worker in this slot costs less than another worker does."""

    slot: int
    uncached_tokens: int


@dataclass(slots=True)
class Line:
    """Workers in one pass along a line, by slot."""

    refilled: Bools = field(default_factory=lambda: np.zeros(SLOTS, np.bool_))
    """Those that may be given something."""
    promised: Ints = field(default_factory=lambda: np.zeros(SLOTS, np.int64))
    """Tokens of those who were passed over because they wait for the worker."""
    owed: frozenset[str] = frozenset()
    """Tenants that have asked for less than their share."""


class Deciding:
    """The policy, with what it may know."""

    def __init__(self, policy: Policy, fleet: Fleet, rates: Rates, known: Filter) -> None:
        self._policy = policy
        self._fleet = fleet
        self._rates = rates
        self._filter = known

    def decide(
        self, request: Request, now_s: float, line: Line | None = None
    ) -> Chosen | Hold | Waiting | TurnedAway:
        """Filter, score, pick; among who waits, or where nobody does."""
        if request.deadline_s is not None and request.deadline_s <= now_s:
            return DeadlinePassed(now_s - request.arrived_s)
        fitting = self.fitting(request)
        if not isinstance(fitting, Roster):
            return fitting
        open_ = self._filter.below_max_running(fitting)
        if not len(open_):
            return Waiting()
        if line is None:
            candidates = self._filter.candidates(request, open_, now_s)
        else:
            owed = request.tenant in line.owed
            candidates = self._filter.candidates(request, open_, now_s, line.promised, owed)
        return self._choose(request, candidates, now_s, line)

    def fitting(self, request: Request) -> Roster | UnknownModel | FleetEmpty | TooLarge:
        """The workers that can serve the request, full or not; or why there is none."""
        allowed = self._filter.allowed(request)
        if not len(allowed):
            return self._nobody(request.pool)
        return self._filter.fitting(request, allowed)

    def line(self, pool: Pool, owed: frozenset[str], now_s: float) -> Line | None:
        """What who waits for the pool may hope for now; None when that is nothing."""
        everybody = self._fleet.open_pool(pool).roster
        if not len(everybody):
            return Line(owed=owed)  # they are turned away
        roster = self._filter.below_max_running(everybody)
        if self._policy.prices_waiting and len(roster):
            roster = roster.only(self._filter.is_nearly_done(roster, now_s))
        if not len(roster):
            return None
        line = Line(owed=owed)
        line.refilled[roster.slots] = True
        return line

    def _choose(
        self, request: Request, candidates: Candidates, now_s: float, line: Line | None
    ) -> Chosen | Hold | DeadlinePassed:
        ttft_s = predicted_ttft_s(candidates)
        row = self._policy.choose(request, candidates, ttft_s)
        if self._policy.prices_waiting and not self._has_room(candidates, row, line):
            in_time = self._in_time(request, candidates, now_s)
            if not in_time[row]:
                if not in_time.any():
                    return DeadlinePassed(now_s - request.arrived_s)
                row = int(np.argmin(np.where(in_time, ttft_s, np.inf)))
            if not self._has_room(candidates, row, line):
                slot = candidates.roster.slots.item(row)
                return Hold(slot, candidates.uncached_tokens.item(row))
        slot = candidates.roster.slots.item(row)
        waited_s = now_s - request.arrived_s
        decision = Decision(
            self._policy.name,
            len(candidates),
            candidates.queued_tokens.item(row),
            waited_s + ttft_s.item(row) if self._rates.known[slot] else None,
        )
        placed = self._placed(slot, candidates.cached_tokens.item(row), decision, waited_s)
        return Chosen(slot, placed, self._considered(candidates, ttft_s))

    def _in_time(self, request: Request, candidates: Candidates, now_s: float) -> Bools:
        """Which workers can be given the request before its deadline."""
        if request.deadline_s is None:
            return np.ones(len(candidates), np.bool_)
        in_time: Bools = candidates.wait_s() <= request.deadline_s - now_s
        return in_time

    def _has_room(self, candidates: Candidates, row: int, line: Line | None) -> bool:
        """Whether the worker should be given the request now.

        While nobody waits, until its next step is full. Else when it is nearly done with what
        it has, and then as much as one step takes: what an engine has, no other can overtake.
        """
        if candidates.memory_s.item(row) > 0.0:
            return False
        ahead = candidates.queued_tokens.item(row)
        budget = candidates.roster.step_budget_tokens.item(row)
        if line is None:
            return ahead < budget
        if not line.refilled[candidates.roster.slots[row]]:
            return False
        nearly_done = ahead * candidates.prefill_s_per_token[row] <= candidates.lead_s()[row]
        return bool(nearly_done or ahead + candidates.uncached_tokens[row] <= budget)

    def _considered(self, candidates: Candidates, ttft_s: Floats) -> Figures:
        """The candidates with the least predicted time, for the record."""
        slots, cached = candidates.roster.slots, candidates.cached_tokens
        queued, requests = candidates.queued_tokens, candidates.requests
        if len(candidates) > CONSIDERED_KEPT:
            best = np.argpartition(ttft_s, CONSIDERED_KEPT)[:CONSIDERED_KEPT]
            slots, cached, queued = slots[best], cached[best], queued[best]
            requests, ttft_s = requests[best], ttft_s[best]
        hellos = [self._fleet.in_slot(slot).hello for slot in slots.tolist()]
        return Figures(hellos, cached, queued, requests, ttft_s)

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
