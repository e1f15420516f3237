"""What a placement changes, from the moment it is made until it ends. Pure."""

from dataclasses import dataclass

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
        self._expect_no_more(placement, has_token=ended.actual_ttft_s is not None)
        if ended.answer_tokens is not None:
            self.answers.learn(placement.pool, ended.answer_tokens)
        if ended.generated_tokens is not None:
            more = ended.generated_tokens - placement.answer_tokens
            self.shares.settle(placement.tenant, more)
        return self._finished(placement, ended.actual_ttft_s)

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

    def _expect_no_more(self, placement: Placement, *, has_token: bool) -> None:
        member = self.fleet.member(placement.worker_id)
        if member is not None and member.hello.epoch == placement.epoch:
            self.index.expect_no_more(member.slot, placement.expected_blocks)
            self.adapters.end_use(
                member.slot, placement.pool.adapter, placement.key, was_loaded=has_token
            )

    def _finished(self, placement: Placement, actual_ttft_s: float | None) -> Finished:
        if actual_ttft_s is None:
            return Finished(None)
        record = self.decisions.came_true(placement.decision_number, actual_ttft_s)
        return Finished(None if record is None else record.error_s)
