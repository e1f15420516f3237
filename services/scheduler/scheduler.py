"""The scheduler's core: one object owns all state, every call runs to its end. Pure.

Values in, values out. Requests that had to wait are answered by `take_answers`, which the
adapter calls after each call here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.scheduler.accounts import Accounts, Ended
from services.scheduler.adapters import Adapters
from services.scheduler.admission import WaitingRoom
from services.scheduler.answers import AnswerLengths
from services.scheduler.books import Books
from services.scheduler.candidates import Filter
from services.scheduler.deciding import Chosen, Deciding, Hold, Line
from services.scheduler.decisions import Decisions
from services.scheduler.facts import Hello, Key, KvChange, Pool, Report, Request
from services.scheduler.fleet import SLOTS, Fleet, Member, Roster
from services.scheduler.index import PrefixIndex
from services.scheduler.outcomes import (
    AlreadyWaiting,
    Answer,
    DeadlinePassed,
    Finished,
    Outcome,
    QueueFull,
    Settled,
    TurnedAway,
    Waiting,
)
from services.scheduler.placement import Policy
from services.scheduler.rates import Rates
from services.scheduler.shares import Shares
from services.scheduler.traffic import Traffic

DECISIONS_KEPT = 1024
LOOKAHEAD = 32
"""How many in a line may be passed over for one behind them: bounds the time of a pass."""
STUCK_LOOKAHEAD, STUCK_PER_HELD = 256, 8
"""The same for those that no worker below `max_running` can take, who cost less to look at."""
PASS_APART_S = 0.005
"""After a pass that held somebody back. Each call here would make one, thousands a second."""
HELD_APART_S = 0.0004
"""The same for each that was held back, about four times what it costs."""
ENDED = Ended()


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
        self.traffic = Traffic(SLOTS)
        known = Filter(
            self.fleet,
            self.books,
            self.rates,
            self.index,
            self.answers,
            self.adapters,
            self.traffic,
        )
        self._deciding = Deciding(policy, self.fleet, self.rates, known)
        self._accounts = Accounts(
            self.fleet,
            self.books,
            self.index,
            self.answers,
            self.adapters,
            self.traffic,
            self.shares,
            self.decisions,
        )
        self._not_before_s = float("-inf")  # the next pass
        self._turn = 0  # the line that goes first: none keeps the others from theirs
        self._late: list[Answer] = []

    def place(self, request: Request, now_s: float) -> Outcome:
        """Place a request now, or let it wait, or turn it away."""
        if request.key in self.queue:
            return AlreadyWaiting(request.key.request_id)
        if request.key in self.books:  # placed again: the older placement is over
            self.finish(request.key, now_s)
        # Nobody overtakes: who comes while others wait joins the line.
        if not self.queue.is_waited_for(request.pool):
            outcome = self._decide(request, now_s)
            if not isinstance(outcome, Hold | Waiting):
                return outcome
        elif (refused := self._refused(request, now_s)) is not None:
            return refused
        if self.queue.full:
            return QueueFull(self.queue.limit, self.queue.retry_after_s())
        self.queue.add(request)
        self.dispatch(now_s)
        return Waiting()

    def finish(self, key: Key, now_s: float, ended: Ended = ENDED) -> Finished | None:
        """A request ended; its room goes to who waits. None when it held no placement."""
        finished = self._accounts.close(key, ended, now_s)
        if finished is None:
            self.queue.leave(key)
        else:
            self.dispatch(now_s)
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
            self._forget(older, now_s)
        peers = self.fleet.peers(hello)
        member = self.fleet.join(hello, now_s)
        self.rates.join(member.slot, peers)
        self.adapters.join(member.slot)
        self.books.join(member.slot, member.id, hello.epoch, now_s)
        self._fleet_changed(now_s)
        return member

    def leave(self, member: Member, now_s: float) -> bool:
        """A worker is gone, with all that it cached. False when it was gone already."""
        if not self.fleet.holds(member):
            return False
        self._forget(member, now_s)
        self._fleet_changed(now_s)
        return True

    def report(self, member: Member, report: Report, now_s: float) -> None:
        """A worker says how it fares."""
        self.fleet.heard(member, now_s)
        for timing in report.prefills:
            self.books.prefilled(member.id, timing.request_id, now_s)
        self.books.correct(member.slot, report, now_s)
        self.adapters.report(member.slot, report.loaded_adapters, report.adapter_loads)
        if self.rates.learn(member.slot, report):
            for slot in self._unknown_peers(member):
                self.rates.follow(slot, member.slot)
        self.fleet.report(member, report)
        self.dispatch(now_s)

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
            self._fleet_changed(now_s)
        return member

    def tick(self, now_s: float) -> list[Member]:
        """Let time pass: leases, deadlines, silent workers. Returns those that are gone."""
        for request in self.queue.too_late(now_s):
            self.queue.leave(request.key)
            self._answer(request, DeadlinePassed(now_s - request.arrived_s))
        for key in self.books.over_lease(now_s):
            self.finish(key, now_s)
        self._accounts.settle(now_s)
        self.dispatch(now_s)
        gone = self.fleet.silent(now_s)
        for member in gone:
            self.leave(member, now_s)
        return gone

    def dispatch(self, now_s: float) -> None:
        """Who waits may have room now: to be called while somebody does, as time passes."""
        if now_s < self._not_before_s:
            return
        held, pools = 0, self.queue.pools()
        first = self._turn % len(pools) if pools else 0
        for pool in pools[first:] + pools[:first]:
            held += self._pass(pool, now_s, LOOKAHEAD - held)
            if held >= LOOKAHEAD:
                break
        self._turn += 1
        if held:
            self._not_before_s = now_s + max(PASS_APART_S, held * HELD_APART_S)

    def take_answers(self) -> list[Answer]:
        """The answers since the last call, to requests that had to wait."""
        late, self._late = self._late, []
        return late

    def _fleet_changed(self, now_s: float) -> None:
        """Who was held back may not be any more."""
        self._not_before_s = float("-inf")
        self.dispatch(now_s)

    def _unknown_peers(self, member: Member) -> list[int]:
        unknown, pools = self.rates.unknown, member.pools
        return [slot for slot in unknown if not pools.isdisjoint(self.fleet.in_slot(slot).pools)]

    def _refused(self, request: Request, now_s: float) -> TurnedAway | None:
        """Why a request need not join the line, if so: nobody can serve it, or not in time."""
        deadline_s = request.deadline_s
        if deadline_s is not None and deadline_s <= now_s + self.queue.wait_s(request):
            return DeadlinePassed(now_s - request.arrived_s)
        fitting = self._deciding.fitting(request)
        return None if isinstance(fitting, Roster) else fitting

    def _pass(self, pool: Pool, now_s: float, most: int) -> int:
        """Go along the line, and place who has room where it wants to go; returns who was held.

        Who would rather wait for a worker is passed over, and counts there as work ahead of
        whoever comes later in the line. So waiting is priced as placing is.
        """
        line = self._deciding.line(pool, self.queue.owed(pool), now_s)
        held = stuck = 0
        if line is None:
            return held
        for request in self.queue.order(pool):
            outcome = self._decide(request, now_s, line)
            match outcome:
                case Hold():
                    line.promised[outcome.slot] += outcome.uncached_tokens
                    held += 1
                case Waiting():  # by its size or its exclusions: it alone is held up
                    stuck += 1
                case _:
                    self.queue.depart(request.key, now_s)
                    self._answer(request, outcome)
            if held >= most or stuck >= STUCK_LOOKAHEAD:
                break
        return held + stuck // STUCK_PER_HELD

    def _decide(
        self, request: Request, now_s: float, line: Line | None = None
    ) -> Settled | Hold | Waiting:
        outcome = self._deciding.decide(request, now_s, line)
        if not isinstance(outcome, Chosen):
            return outcome
        self._accounts.enter(request, outcome, now_s)
        return outcome.placed

    def _forget(self, member: Member, now_s: float) -> None:
        self.fleet.leave(member)
        self.books.leave(member.slot, member.id, now_s)
        self.traffic.leave(member.slot)
        self.rates.leave(member.slot)
        self.adapters.leave(member.slot)
        self.index.drop(member.slot)

    def _answer(self, request: Request, outcome: Settled) -> None:
        self._late.append(Answer(request, outcome))
