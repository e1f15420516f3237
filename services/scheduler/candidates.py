"""Filter: the workers that can run a request now, and what is known of each. Pure."""

from dataclasses import dataclass, field

import numpy as np

from services.scheduler.adapters import Adapters
from services.scheduler.answers import AnswerLengths
from services.scheduler.books import Books
from services.scheduler.facts import Request
from services.scheduler.fleet import SLOTS, Bools, Fleet, Floats, Ints, Roster
from services.scheduler.index import PrefixIndex
from services.scheduler.outcomes import TooLarge
from services.scheduler.rates import Rates
from services.scheduler.traffic import Demand, Traffic

REACH_S = 0.02
"""From a decision to the engine: a pass comes every 5 ms, then two hops and the engine's loop."""
STEP_ERROR = 0.1
OVERDUE, OVERDUE_S = 3.0, 1.0
"""A worker is overdue after so many times what its work should take, and so many seconds."""
UNKNOWN_PATIENCE = 10
"""Times that, while its speed is a guess."""

NO_WAIT_S: Floats = np.broadcast_to(0.0, SLOTS)


@dataclass(slots=True, eq=False, kw_only=True)
class Candidates:
    """One row a worker, ordered by id: the first of equals is the one to choose.

    Nobody writes here once it is made. It is not frozen, because there is one for each request,
    and that would take as long as three of its columns.
    """

    roster: Roster
    cached_tokens: Ints
    uncached_tokens: Ints
    requests: Ints
    waiting: Ints
    """Of the requests, those that are not prefilled."""
    queued_tokens: Ints
    """Prompt tokens to compute before its own."""
    held_tokens: Ints
    """Of their caches, what placed requests fill."""
    prefill_s_per_token: Floats
    step_s: Floats
    step_s_per_decode: Floats
    answer_tokens: float
    """Tokens that the request is likely to generate, wherever it runs."""
    demand: Demand
    """What comes to each of them, in the mean."""
    owed: bool = False
    """Whether its tenant has asked for less than its share, while others wait."""
    load_s: Floats | float = 0.0
    """To load the request's adapter, where it is not loaded."""
    tokens_before: Ints = field(init=False)
    """Queued tokens as they are priced, where not everybody has reported."""
    memory_s: Floats = field(init=False)
    """Until requests have ended whose part of the cache this one needs."""

    def __post_init__(self) -> None:
        self.tokens_before = self._tokens_before()
        self.memory_s = self._memory_s()

    def __len__(self) -> int:
        return len(self.roster)

    def wait_s(self) -> Floats:
        """Until each worker may be given the request, about."""
        ahead_s = self.queued_tokens * self.prefill_s_per_token
        wait_s: Floats = np.maximum(0.0, ahead_s - self.lead_s()) + self.memory_s
        return wait_s

    def lead_s(self) -> Floats:
        """How long before its end a worker's work counts as nearly done."""
        return lead_s(self.roster, self.prefill_s_per_token)

    def _tokens_before(self) -> Ints:
        # Unknown is not zero: beside what was placed on it since, a worker that has not reported
        # is taken to be as busy as the busiest that has.
        queued, roster = self.queued_tokens, self.roster
        if roster.all_reported or roster.none_reported:
            return queued
        reported = roster.reported
        return np.where(reported, queued, queued + queued[reported].max())

    def _memory_s(self) -> Floats:
        # Each leaves after the steps of its answer, so what is held is given back evenly over
        # that time.
        memory = self.roster.memory_tokens
        prompt_tokens = self.cached_tokens.item(0) + self.uncached_tokens.item(0)
        least = self.roster.least_memory_tokens - prompt_tokens - self.answer_tokens
        if not np.count_nonzero(self.held_tokens > least):  # mostly so
            return NO_WAIT_S[: len(memory)]
        needed = np.minimum(self.uncached_tokens + self.answer_tokens, memory)
        lacking = np.maximum(0, self.held_tokens + needed - memory)
        step_s = self.step_s + self.step_s_per_decode * self.requests
        wait_s: Floats = self.answer_tokens * step_s * lacking / np.maximum(1, self.held_tokens)
        return wait_s


@dataclass(slots=True)
class Filter:
    """Reads the scheduler's memory; writes nothing."""

    fleet: Fleet
    books: Books
    rates: Rates
    index: PrefixIndex
    answers: AnswerLengths
    adapters: Adapters
    traffic: Traffic

    def allowed(self, request: Request) -> Roster:
        """Workers of the request's pool that are open and not excluded."""
        roster = self.fleet.open_pool(request.pool).roster
        if not request.excluded_workers:
            return roster
        members = map(self.fleet.member, request.excluded_workers)
        excluded = [member.slot for member in members if member is not None]
        return roster.only(~np.isin(roster.slots, excluded))

    def fitting(self, request: Request, roster: Roster) -> Roster | TooLarge:
        """Those whose cache and model can hold the request."""
        wanted = request.prompt_tokens + request.max_tokens
        if wanted <= self.fleet.open_pool(request.pool).smallest_tokens:
            return roster
        most, cache = roster.max_model_tokens, roster.cache_tokens
        # Several choices may together exceed the model's length; the engine can run them one
        # after the other. Generating takes at least one token.
        least = request.prompt_tokens + min(request.max_tokens, 1)
        fit = (least <= most) & (np.minimum(wanted, most) <= cache)
        if not fit.any():
            return TooLarge(least, int(np.minimum(most, cache).max()))
        return roster.only(fit)

    def below_max_running(self, roster: Roster) -> Roster:
        """Those that can run one more request at once."""
        below = self.books.requests[roster.slots] < roster.max_running
        return roster if below.all() else roster.only(below)

    def candidates(
        self,
        request: Request,
        roster: Roster,
        now_s: float,
        promised: Ints | None = None,
        owed: bool = False,
    ) -> Candidates:
        """What is known of these workers now, for this request; `promised` tokens are ahead too."""
        books, rates, slots = self.books, self.rates, roster.slots
        per_token_s = rates.prefill_s_per_token[slots]
        cached = self._cached_tokens(request, roster)
        ahead = self.tokens_ahead(roster, per_token_s, now_s)
        return Candidates(
            roster=roster,
            cached_tokens=cached,
            uncached_tokens=request.prompt_tokens - cached,
            requests=books.requests[slots],
            waiting=books.waiting[slots],
            queued_tokens=ahead if promised is None else ahead + promised[slots],
            held_tokens=books.held_tokens[slots],
            prefill_s_per_token=per_token_s,
            step_s=rates.step_s[slots],
            step_s_per_decode=rates.step_s_per_decode[slots],
            answer_tokens=self.answers.expected(request),
            demand=self.traffic.demand(slots, per_token_s, now_s),
            owed=owed,
            load_s=self.adapters.load_s(request.pool.adapter, slots),
        )

    def is_nearly_done(self, roster: Roster, now_s: float) -> Bools:
        """Whether each worker will soon have computed all that it was given."""
        per_token_s = self.rates.prefill_s_per_token[roster.slots]
        ahead_s = self.tokens_ahead(roster, per_token_s, now_s) * per_token_s
        done: Bools = ahead_s <= lead_s(roster, per_token_s)
        return done

    def tokens_ahead(self, roster: Roster, per_token_s: Floats, now_s: float) -> Ints:
        """Queued tokens, less what has been computed of them since an engine was last heard of.

        It says when a prompt is computed, not how far it has come: at most the first in its
        line, or a whole step of several, can be behind it without a word. A worker that is silent
        for long after that looks the busier the longer it is: it may have stopped.
        """
        books, slots = self.books, roster.slots
        unheard_s = now_s - books.heard_s[slots]
        by_time = unheard_s / per_token_s
        most = np.maximum(books.head_tokens[slots], roster.step_budget_tokens)
        # What came from elsewhere has no known beginning.
        queued = books.queued_tokens[slots]
        late = np.minimum(by_time, np.minimum(most, queued))
        np.negative(late, out=late)
        # Long overdue, it may well take as long again: the more it was silent, the less it suits.
        if np.count_nonzero(unheard_s > OVERDUE_S):
            patience = np.where(self.rates.known[slots], 1, UNKNOWN_PATIENCE)
            limit = patience * (OVERDUE * most + OVERDUE_S / per_token_s)
            late += np.where(queued > 0, np.maximum(0, by_time - limit), 0)
        left: Ints = books.tokens_ahead[slots] + late.astype(np.int64)
        return left

    def _cached_tokens(self, request: Request, roster: Roster) -> Ints:
        size = request.block_size
        depths = self.index.match(request.block_hashes, self.fleet.slots_in_use)
        # The last token's logits are needed: an engine computes at least one token.
        usable = (request.prompt_tokens - 1) // size
        cached: Ints = np.minimum(depths[roster.slots], usable) * size
        if not roster.block_sizes <= {size}:
            cached[roster.block_size != size] = 0
        return cached


def lead_s(roster: Roster, prefill_s_per_token: Floats) -> Floats:
    """What it takes to reach a worker, and what a step's prediction is off by."""
    step_s: Floats = roster.step_budget_tokens * prefill_s_per_token
    lead: Floats = REACH_S + STEP_ERROR * step_s
    return lead
