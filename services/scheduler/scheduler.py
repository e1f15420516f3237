"""The scheduler's core: one object owns all state, every call runs to its end. Pure.

Values in, values out. Requests that had to wait are answered by `take_answers`, which the
adapter calls after each call here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.scheduler.adapters import Adapters
from services.scheduler.admission import WaitingRoom
from services.scheduler.answers import AnswerLengths
from services.scheduler.books import Books, Placement
from services.scheduler.candidates import Filter
from services.scheduler.deciding import Chosen, Deciding
from services.scheduler.decisions import DecisionRecord, Decisions
from services.scheduler.facts import Hello, Key, KvChange, Pool, Report, Request
from services.scheduler.fleet import SLOTS, Fleet, Member
from services.scheduler.index import PrefixIndex
from services.scheduler.outcomes import (
    AlreadyWaiting,
    Answer,
    DeadlinePassed,
    Finished,
    Outcome,
    QueueFull,
    Settled,
    Waiting,
)
from services.scheduler.placement import Policy
from services.scheduler.rates import Rates
from services.scheduler.shares import Shares

DECISIONS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the scheduler may hold."""

    queued_requests: int = 1024
    indexed_blocks: int = 1_000_000
    index_every: int = 1


class Scheduler:
    """Fleet, books, index and queue, and the one policy that decides."""

    def __init__(
        self,
        policy: Policy,
        worker_ttl_s: float,
        bounds: Bounds,
        weights: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.policy = policy
        self.fleet = Fleet(worker_ttl_s)
        self.books = Books(SLOTS)
        self.rates = Rates(SLOTS)
        self.index = PrefixIndex(bounds.indexed_blocks, SLOTS, bounds.index_every)
        self.shares = Shares(weights)
        self.queue = WaitingRoom(bounds.queued_requests, self.shares)
        self.decisions = Decisions(DECISIONS_KEPT)
        self.answers = AnswerLengths()
        self.adapters = Adapters(SLOTS)
        known = Filter(self.fleet, self.books, self.rates, self.index, self.answers, self.adapters)
        self._deciding = Deciding(policy, self.fleet, self.rates, known)
        self._late: list[Answer] = []

    def place(self, request: Request, now_s: float) -> Outcome:
        """Place a request now, or let it wait, or turn it away."""
        if request.key in self.queue:
            return AlreadyWaiting(request.key.request_id)
        if request.key in self.books:  # placed again: the older placement is over
            self.finish(request.key, now_s)
        outcome: Outcome = Waiting()
        # Nobody overtakes: who comes while others wait joins the line.
        if not self.queue.is_waited_for(request.pool):
            outcome = self._decide(request, now_s)
        if not isinstance(outcome, Waiting):
            return outcome
        if self.queue.full:
            return QueueFull(self.queue.limit, self.queue.retry_after_s())
        self.queue.add(request)
        self._dispatch(now_s)
        return outcome

    def finish(
        self,
        key: Key,
        now_s: float,
        actual_ttft_s: float | None = None,
        answer_tokens: int | None = None,
        generated_tokens: int | None = None,
    ) -> Finished | None:
        """A request ended; its room goes to who waits. None when it held no placement.

        `answer_tokens` is the length of an answer that was not cut short, `generated_tokens`
        what was generated in any case: its tenant pays for that.
        """
        placement = self.books.finish(key)
        if placement is None:
            self.queue.leave(key)
            return None
        self._expect_no_more(placement, has_token=actual_ttft_s is not None)
        if answer_tokens is not None:
            self.answers.learn(placement.pool, answer_tokens)
        if generated_tokens is not None:
            more = generated_tokens - placement.charged_answer_tokens
            self.shares.settle(placement.tenant, more)
        finished = self._finished(placement, actual_ttft_s)
        self._dispatch(now_s)
        return finished

    def withdraw(self, key: Key) -> bool:
        """A request waits no longer. False when it did not wait."""
        return self.queue.leave(key) is not None

    def release(self, owner: int, now_s: float) -> None:
        """An owner is gone: all that it placed is over, all that it asked is withdrawn."""
        for key in self.queue.held_by(owner):
            self.queue.leave(key)
        for key in self.books.held_by(owner):
            self.finish(key, now_s)

    def join(self, hello: Hello, now_s: float) -> Member:
        """A worker joins; an older one of the same id leaves."""
        older = self.fleet.member(hello.worker_id)
        if older is not None:
            self._forget(older)
        peers = self._peers(hello)
        member = self.fleet.join(hello, now_s)
        self.rates.join(member.slot, peers)
        self.adapters.join(member.slot)
        self.books.join(member.slot, member.id, hello.epoch)
        self._dispatch(now_s)
        return member

    def leave(self, member: Member, now_s: float) -> bool:
        """A worker is gone, with all that it cached. False when it was gone already."""
        if not self.fleet.holds(member):
            return False
        self._forget(member)
        self._dispatch(now_s)
        return True

    def report(self, member: Member, report: Report, now_s: float) -> None:
        """A worker says how it fares."""
        self.fleet.heard(member, now_s)
        for timing in report.prefills:
            self.books.prefilled(member.id, timing.request_id)
        self.books.correct(member.slot, report)
        self.rates.learn(member.slot, report)
        self.adapters.report(member.slot, report.loaded_adapters, report.adapter_loads)
        if report.prefills or report.steps:
            for slot in self._unknown_peers(member.hello):
                self.rates.follow(slot, member.slot)
        self.fleet.report(member, report)
        self._dispatch(now_s)

    def change(self, member: Member, change: KvChange, now_s: float) -> bool:
        """A worker's cache changed. False after a gap: what is known of it is wrong."""
        self.fleet.heard(member, now_s)
        if not self.fleet.follows(member, change.sequence, change.snapshot):
            return False
        if change.snapshot:
            self.index.clear(member.slot)
        self.index.store(member.slot, change.stored)
        self.index.remove(member.slot, change.removed)
        return True

    def drain(self, worker_id: str, now_s: float) -> Member | None:
        """Give a worker nothing new. None when it is not in the fleet."""
        member = self.fleet.member(worker_id)
        if member is not None:
            self.fleet.drain(member)
            self._dispatch(now_s)
        return member

    def tick(self, now_s: float) -> list[Member]:
        """Let time pass: leases, deadlines, silent workers. Returns those that are gone."""
        for request in self.queue.too_late(now_s):
            self.queue.leave(request.key)
            self._answer(request, DeadlinePassed(now_s - request.arrived_s))
        for key in self.books.over_lease(now_s):
            self.finish(key, now_s)
        gone = self.fleet.silent(now_s)
        for member in gone:
            self.leave(member, now_s)
        return gone

    def take_answers(self) -> list[Answer]:
        """The answers since the last call, to requests that had to wait."""
        late, self._late = self._late, []
        return late

    def _peers(self, hello: Hello) -> list[int]:
        """The slots of those that serve what this worker serves."""
        pools = (self.fleet.open_pool(pool) for pool in hello.pools())
        return sorted({slot for pool in pools for slot in pool.roster.slots.tolist()})

    def _unknown_peers(self, hello: Hello) -> list[int]:
        pools = set(hello.pools()) if self.rates.unknown else set()
        return [
            slot
            for slot in self.rates.unknown
            if not pools.isdisjoint(self.fleet.in_slot(slot).hello.pools())
        ]

    def _dispatch(self, now_s: float) -> None:
        for pool in self.queue.pools():
            self._dispatch_line(pool, now_s)

    def _dispatch_line(self, pool: Pool, now_s: float) -> None:
        for request in self.queue.order(pool):
            outcome = self._decide(request, now_s)
            if not isinstance(outcome, Waiting):
                self.queue.depart(request.key, now_s)
                self._answer(request, outcome)
            elif self._deciding.is_full(pool):
                return  # else this request alone is held up, by its size or its exclusions

    def _decide(self, request: Request, now_s: float) -> Outcome:
        outcome = self._deciding.decide(request, now_s)
        if not isinstance(outcome, Chosen):
            return outcome
        record = DecisionRecord(request, outcome.placed, now_s, outcome.considered)
        self._enter(request, outcome, self.decisions.add(record), now_s)
        return outcome.placed

    def _enter(self, request: Request, chosen: Chosen, number: int, now_s: float) -> None:
        slot, placed = chosen.slot, chosen.placed
        hello = self.fleet.in_slot(slot).hello
        # Whoever comes next with the same prompt finds it here, though it is not computed yet.
        caches = hello.capacity_blocks and hello.block_size == request.block_size
        known_blocks = placed.cached_tokens // request.block_size
        expected = request.block_hashes[known_blocks:] if caches else ()
        self.index.expect(slot, expected)
        self.adapters.use(slot, request.pool.adapter, request.key)
        uncached_tokens = request.prompt_tokens - placed.cached_tokens
        answer_tokens = round(self.answers.expected(request))
        self.shares.charge(request.tenant, uncached_tokens + answer_tokens)
        placement = Placement(
            key=request.key,
            pool=request.pool,
            worker_id=hello.worker_id,
            epoch=hello.epoch,
            uncached_tokens=uncached_tokens,
            decode_tokens=request.max_tokens,
            tenant=request.tenant,
            charged_answer_tokens=answer_tokens,
            expected_blocks=expected,
            lease_end_s=None if request.lease_s is None else now_s + request.lease_s,
            decision_number=number,
        )
        self.books.place(placement, slot)

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

    def _forget(self, member: Member) -> None:
        self.fleet.leave(member)
        self.books.leave(member.slot, member.id)
        self.rates.leave(member.slot)
        self.adapters.leave(member.slot)
        self.index.drop(member.slot)

    def _answer(self, request: Request, outcome: Settled) -> None:
        self._late.append(Answer(request, outcome))
