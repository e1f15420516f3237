"""Filter: the workers that can run a request now, and what is known of each. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.scheduler.adapters import Adapters
from services.scheduler.answers import AnswerLengths
from services.scheduler.books import Books
from services.scheduler.facts import Request
from services.scheduler.fleet import Fleet, Ints, Roster
from services.scheduler.index import PrefixIndex
from services.scheduler.outcomes import TooLarge
from services.scheduler.rates import Rates

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """One row a worker, ordered by id: the first of equals is the one to choose."""

    roster: Roster
    cached_tokens: Ints
    uncached_tokens: Ints
    requests: Ints
    waiting: Ints
    """Of the requests, those that are not prefilled."""
    queued_tokens: Ints
    prefill_s_per_token: Floats
    step_s: Floats
    step_s_per_decode: Floats
    answer_tokens: float
    """Tokens that the request is likely to generate, wherever it runs."""
    load_s: Floats | float = 0.0
    """To load the request's adapter, where it is not loaded."""

    def __len__(self) -> int:
        return len(self.roster)


@dataclass(slots=True)
class Filter:
    """Reads the scheduler's memory; writes nothing."""

    fleet: Fleet
    books: Books
    rates: Rates
    index: PrefixIndex
    answers: AnswerLengths
    adapters: Adapters

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

    def with_room(self, roster: Roster) -> Roster:
        """Those that can run one more request at once.

        Late binding: beyond `max_running` a request would wait in the engine, where its place
        is fixed; here it can still go to whichever worker is free first. A tighter bound, by
        the tokens of the next steps, was tried: it left one candidate at a time, which was
        seldom the one with the prefix (docs/benchmarks/routing.md).
        """
        room = self.books.requests[roster.slots] < roster.max_running
        return roster if room.all() else roster.only(room)

    def candidates(self, request: Request, roster: Roster) -> Candidates:
        """What is known of these workers, for this request."""
        books, rates, slots = self.books, self.rates, roster.slots
        cached = self._cached_tokens(request, roster)
        return Candidates(
            roster=roster,
            cached_tokens=cached,
            uncached_tokens=request.prompt_tokens - cached,
            requests=books.requests[slots],
            waiting=books.waiting[slots],
            queued_tokens=books.tokens_ahead[slots],
            prefill_s_per_token=rates.prefill_s_per_token[slots],
            step_s=rates.step_s[slots],
            step_s_per_decode=rates.step_s_per_decode[slots],
            answer_tokens=self.answers.expected(request),
            load_s=self.adapters.load_s(request.pool.adapter, slots),
        )

    def _cached_tokens(self, request: Request, roster: Roster) -> Ints:
        size = request.block_size
        depths = self.index.match(request.block_hashes, self.fleet.slots_in_use)
        # The last token's logits are needed: an engine computes at least one token.
        usable = (request.prompt_tokens - 1) // size
        cached: Ints = np.minimum(depths[roster.slots], usable) * size
        cached[roster.block_size != size] = 0
        return cached
