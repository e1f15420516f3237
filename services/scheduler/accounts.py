"""What a placement changes, from the moment it is made until it ends. Pure."""

from collections import deque
from dataclasses import dataclass, field

from services.scheduler.adapters import Adapters
from services.scheduler.answers import AnswerLengths
from services.scheduler.books import Books, Placement
from services.scheduler.deciding import Chosen
from services.scheduler.decisions import DecisionRecord, Decisions
from services.scheduler.facts import Key, Request
from services.scheduler.fleet import Fleet
from services.scheduler.index import PrefixIndex
from services.scheduler.outcomes import Finished
from services.scheduler.shares import Shares
from services.scheduler.traffic import Traffic

SETTLING_S = 0.6
"""Workers gather their caches' news: so long after its end a request's blocks are expected."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What the caller says of a placement that is over; None is what it does not know."""

    actual_ttft_s: float | None = None
    answer_tokens: int | None = None
    """The length of an answer that was not cut short."""
    generated_tokens: int | None = None
    """What was generated in any case: its tenant pays for that."""


@dataclass(slots=True)
class Accounts:
    """Writes a placement into everything that must know of it."""

    fleet: Fleet
    books: Books
    index: PrefixIndex
    answers: AnswerLengths
    adapters: Adapters
    traffic: Traffic
    shares: Shares
    decisions: Decisions
    _settling: deque[tuple[float, Placement]] = field(default_factory=deque)
    """Placements that are over, and when the news of their blocks has come."""

    def enter(self, request: Request, chosen: Chosen, now_s: float) -> None:
        """A request goes to a worker: it counts from now on."""
        slot = chosen.slot
        record = DecisionRecord(request, chosen.placed, now_s, chosen.considered)
        placement = self._placement(request, chosen, self.decisions.add(record), now_s)
        # Whoever comes next with the same prompt finds it here, though it is not computed yet.
        self.index.expect(slot, placement.expected_blocks)
        self.adapters.use(slot, request.pool.adapter, request.key)
        charge = placement.uncached_tokens + placement.answer_tokens
        self.shares.charge(request.tenant, charge)
        self.books.place(placement, slot, now_s)
        self.traffic.placed(slot, placement.uncached_tokens, now_s)

    def close(self, key: Key, ended: Ended, now_s: float) -> Finished | None:
        """A request ended. None when it held no placement."""
        placement = self.books.finish(key, now_s)
        if placement is None:
            return None
        has_token = ended.actual_ttft_s is not None
        if placement.pool.adapter:
            self._end_adapter_use(placement, was_loaded=has_token)
        if has_token:
            self._settling.append((now_s + SETTLING_S, placement))
        else:
            self._expect_no_more(placement)
        self.settle(now_s)
        if ended.answer_tokens is not None:
            self.answers.learn(placement.pool, ended.answer_tokens)
        if ended.generated_tokens is not None:
            more = ended.generated_tokens - placement.answer_tokens
            self.shares.settle(placement.tenant, more)
        return self._finished(placement, ended.actual_ttft_s)

    def settle(self, now_s: float) -> None:
        """Let time pass: what a cache holds by now, its worker has said."""
        while self._settling and self._settling[0][0] <= now_s:
            _, placement = self._settling.popleft()
            self._expect_no_more(placement)

    def _placement(
        self, request: Request, chosen: Chosen, decision_number: int, now_s: float
    ) -> Placement:
        hello, cached_tokens = self.fleet.in_slot(chosen.slot).hello, chosen.placed.cached_tokens
        caches = hello.capacity_blocks and hello.block_size == request.block_size
        known_blocks = cached_tokens // request.block_size
        return Placement(
            key=request.key,
            pool=request.pool,
            worker_id=hello.worker_id,
            epoch=hello.epoch,
            uncached_tokens=request.prompt_tokens - cached_tokens,
            decode_tokens=request.max_tokens,
            tenant=request.tenant,
            answer_tokens=round(self.answers.expected(request)),
            expected_blocks=request.block_hashes[known_blocks:] if caches else (),
            lease_end_s=None if request.lease_s is None else now_s + request.lease_s,
            decision_number=decision_number,
        )

    def _expect_no_more(self, placement: Placement) -> None:
        slot = self._slot(placement)
        if slot is not None:
            self.index.expect_no_more(slot, placement.expected_blocks)

    def _end_adapter_use(self, placement: Placement, *, was_loaded: bool) -> None:
        slot = self._slot(placement)
        if slot is not None:
            adapter, key = placement.pool.adapter, placement.key
            self.adapters.end_use(slot, adapter, key, was_loaded=was_loaded)

    def _slot(self, placement: Placement) -> int | None:
        """Where its worker is, unless it has another life by now."""
        member = self.fleet.member(placement.worker_id)
        if member is None or member.hello.epoch != placement.epoch:
            return None
        return member.slot

    def _finished(self, placement: Placement, actual_ttft_s: float | None) -> Finished:
        if actual_ttft_s is None:
            return Finished(None)
        record = self.decisions.came_true(placement.decision_number, actual_ttft_s)
        return Finished(None if record is None else record.error_s)
