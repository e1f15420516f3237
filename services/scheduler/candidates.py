"""Filter: the workers that can run a request now, and what is known of each. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.scheduler.books import Books
from services.scheduler.facts import Request
from services.scheduler.fleet import Fleet, OpenPool
from services.scheduler.index import PrefixIndex
from services.scheduler.outcomes import TooLarge
from services.scheduler.rates import Rates

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """One row a worker. Loads are what the books hold and what came another way together."""

    slots: Ints
    rank: Ints
    seed: npt.NDArray[np.uint64]
    cached_tokens: Ints
    uncached_tokens: Ints
    requests: Ints
    waiting: Ints
    queued_tokens: Ints
    reported: npt.NDArray[np.bool_]
    step_budget_tokens: Ints
    prefill_s_per_token: Floats
    step_s: Floats
    step_s_per_decode: Floats

    def __len__(self) -> int:
        return len(self.slots)


@dataclass(slots=True)
class Filter:
    """Reads the scheduler's memory; writes nothing."""

    fleet: Fleet
    books: Books
    rates: Rates
    index: PrefixIndex

    def allowed(self, request: Request) -> Ints:
        """Workers of the request's pool that are open and not excluded."""
        slots = self.fleet.open_pool(request.pool).slots
        members = map(self.fleet.member, request.excluded_workers)
        excluded = [member.slot for member in members if member is not None]
        return slots[~np.isin(slots, excluded)] if excluded else slots

    def fitting(self, request: Request, slots: Ints) -> Ints | TooLarge:
        """Those whose cache and model can hold the request."""
        wanted = request.prompt_tokens + request.max_tokens
        if wanted <= self._pool(request).smallest_tokens:
            return slots
        most = self.fleet.max_model_tokens[slots]
        cache = self.fleet.cache_tokens[slots]
        # Several choices may together exceed the model's length; the engine can run them one
        # after the other. Generating takes at least one token.
        least = request.prompt_tokens + min(request.max_tokens, 1)
        fit = (least <= most) & (np.minimum(wanted, most) <= cache)
        if not fit.any():
            return TooLarge(least, int(np.minimum(most, cache).max()))
        return slots[fit]

    def with_room(self, slots: Ints) -> Ints:
        """Those that can run one more request at once.

        Late binding: beyond `max_running` a request would wait in the engine, where its place
        is fixed; here it can still go to whichever worker is free first.
        """
        requests = self.books.placed[slots] + self.books.foreign_requests[slots]
        room = requests < self.fleet.max_running[slots]
        return slots if room.all() else slots[room]

    def candidates(self, request: Request, slots: Ints) -> Candidates:
        """What is known of these workers, for this request."""
        fleet, books, rates = self.fleet, self.books, self.rates
        cached = self._cached_tokens(request, slots)
        return Candidates(
            slots=slots,
            rank=fleet.rank[slots],
            seed=fleet.seed[slots],
            cached_tokens=cached,
            uncached_tokens=request.prompt_tokens - cached,
            requests=books.placed[slots] + books.foreign_requests[slots],
            waiting=books.waiting[slots],
            queued_tokens=books.queued_tokens[slots] + books.foreign_tokens[slots],
            reported=fleet.reported[slots],
            step_budget_tokens=fleet.step_budget_tokens[slots],
            prefill_s_per_token=rates.prefill_s_per_token[slots],
            step_s=rates.step_s[slots],
            step_s_per_decode=rates.step_s_per_decode[slots],
        )

    def _cached_tokens(self, request: Request, slots: Ints) -> Ints:
        size = request.block_size
        # The last token's logits are needed: an engine computes at least one token.
        usable = (request.prompt_tokens - 1) // size
        depths = self.index.match(request.block_hashes, self.fleet.slots_in_use)[slots]
        cached = np.minimum(depths, usable) * size
        cached[self.fleet.block_size[slots] != size] = 0
        return cached

    def _pool(self, request: Request) -> OpenPool:
        return self.fleet.open_pool(request.pool)
