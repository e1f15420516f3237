"""A fleet in virtual time: the real scheduler core over the simulated engine's steps. Pure.

Nothing sleeps: a heap of events says what is next. Placements and ends are known at once. What
a worker reports is known when the real one would have sent it, and a network's delay later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from command.simulation import news
from command.simulation.results import Served
from command.simulation.workload import Job
from services.scheduler.accounts import Ended
from services.scheduler.facts import Hello, Key, Kind, KvChange, Pool, Request
from services.scheduler.fleet import Member
from services.scheduler.outcomes import Outcome, Placed, TooLarge, TurnedAway
from services.scheduler.placement import Policy
from services.scheduler.reports import read_report
from services.scheduler.scheduler import PASS_APART_S, Bounds, Scheduler
from services.worker.reports import Prefill, Reporting
from services.worker.sim_core import Emitted, SimCore, SimRun, SimSettings

POOL = Pool("simulated", "", Kind.GENERATE)
OWNER = 1
LONGEST_TOKENS = 1 << 30
HEARTBEAT_S = 0.25
"""The scheduler's default; a worker reports twice in it, and sooner when much has changed."""
DELAY_S = 0.001
"""From a worker's engine to the scheduler."""
TOLD_EVERY = 256
"""Requests between two calls of `progress`."""

Event = Callable[[], None]


class CannotServe(Exception):
    """A job that no worker can take. The text is one line."""


class TraceTokens:
    """A run's tokens, of which only their number and their blocks are known."""

    __slots__ = ("_fresh", "_hashes", "_length")

    def __init__(self, job: Job, fresh: "count[int]") -> None:
        self._length = job.prompt_tokens
        self._hashes = list(job.blocks)
        self._fresh = fresh

    def __len__(self) -> int:
        return self._length

    def add_next(self) -> int:
        """One more token; which one does not matter."""
        self._length += 1
        return 0

    def block_hashes(self, full_blocks: int) -> Sequence[int]:
        """The hashes of the first blocks; those of an answer are nobody else's."""
        while len(self._hashes) < full_blocks:
            self._hashes.append(next(self._fresh))
        return self._hashes


@dataclass(slots=True, eq=False)
class Underway:
    """A job on its way."""

    job: Job
    worker: int = -1
    handed_s: float = 0.0
    scheduled_s: float = 0.0
    first_s: float = 0.0
    decoding: int = 0
    cached_tokens: int = 0


@dataclass(slots=True, eq=False)
class Node:
    """A worker: its engine, and its side of the conversation with the scheduler."""

    core: SimCore
    member: Member
    reporting: Reporting
    prefills: list[Prefill] = field(default_factory=list)
    sequence: int = 0
    busy: bool = False
    looks: bool = False
    """Whether it will look at its load again without a step's end."""


class Fleet:
    """One run of a workload under one policy."""

    def __init__(
        self,
        policy: Policy,
        workers: int,
        settings: SimSettings,
        jobs: Sequence[Job],
        on_end: Callable[[Key], None] | None = None,
        at_once: bool = False,
    ) -> None:
        # A worker that says it takes any number of tokens in a step has room for every request:
        # the scheduler places at once, and requests queue in the engines.
        self._budget = LONGEST_TOKENS if at_once else settings.budget
        self._on_end = on_end  # for policies that keep books of their own
        self._jobs = jobs
        self._settings = settings
        self._now_s = 0.0
        self._ticks = False
        self._events: list[tuple[float, int, Event]] = []
        self._numbers = count()
        self._fresh = count(1 << 63)
        # A caller's bound says little of its answer's length, so it is the same for all.
        self._max_tokens = max(job.output_tokens for job in jobs)
        # Nobody dies here, and nobody is turned away: what is measured is placement.
        bounds = Bounds(len(jobs) + 1, workers * settings.capacity_blocks * 2)
        self._scheduler = Scheduler(policy, float("inf"), bounds)
        self._nodes = [self._join(number) for number in range(workers)]
        self._numbered = {node.member.id: number for number, node in enumerate(self._nodes)}
        self._underway: dict[str, Underway] = {}
        self._served: list[Served] = []

    def run(self, progress: Callable[[int], None] = lambda _: None) -> list[Served]:
        """Serve all jobs; `progress` hears how many were."""
        self._arrive_next(0)
        told = 0
        while self._events:
            self._now_s, _, event = heappop(self._events)
            event()
            if len(self._served) - told >= TOLD_EVERY:
                told = len(self._served)
                progress(told)
        progress(len(self._served))
        return self._served

    def _at(self, when_s: float, event: Event) -> None:
        heappush(self._events, (when_s, next(self._numbers), event))

    def _join(self, number: int) -> Node:
        settings = self._settings
        hello = Hello(
            worker_id=f"worker-{number:04d}",
            address=f"worker-{number:04d}",
            epoch=1,
            kind=Kind.GENERATE,
            models=(POOL.model,),
            block_size=settings.block_size,
            capacity_blocks=settings.capacity_blocks,
            max_running=settings.max_running,
            step_budget_tokens=self._budget,
            max_model_tokens=LONGEST_TOKENS,
            engine="sim",
        )
        member = self._scheduler.join(hello, 0.0)
        node = Node(SimCore(settings), member, Reporting(settings.budget))
        self._report(node)
        return node

    def _arrive_next(self, number: int) -> None:
        if number < len(self._jobs):
            self._at(self._jobs[number].arrival_s, lambda: self._arrive(number))

    def _arrive(self, number: int) -> None:
        job = self._jobs[number]
        request = Request(
            key=Key(OWNER, str(number)),
            pool=POOL,
            prompt_tokens=job.prompt_tokens,
            max_tokens=job.max_tokens or self._max_tokens,
            block_hashes=job.blocks,
            block_size=self._settings.block_size,
            tenant=job.tenant,
            priority=job.priority,
            arrived_s=self._now_s,
        )
        self._underway[request.key.request_id] = Underway(job)
        self._hand(request.key, self._scheduler.place(request, self._now_s))
        self._hand_late()
        self._arrive_next(number + 1)

    def _hand_late(self) -> None:
        if self._scheduler.queue and not self._ticks:
            self._ticks = True
            self._at(self._now_s + PASS_APART_S, self._tick)
        for answer in self._scheduler.take_answers():
            self._hand(answer.request.key, answer.outcome)

    def _tick(self) -> None:
        self._ticks = False
        self._scheduler.dispatch(self._now_s)
        self._hand_late()

    def _hand(self, key: Key, outcome: Outcome) -> None:
        if isinstance(outcome, TooLarge):
            most = outcome.limit_tokens
            raise CannotServe(
                f"request {key.request_id} has {outcome.tokens} tokens, more than a worker's {most}"
            )
        if isinstance(outcome, TurnedAway):
            raise CannotServe(f"request {key.request_id}: {outcome}")
        if not isinstance(outcome, Placed):
            return
        underway = self._underway[key.request_id]
        underway.worker = self._numbered[outcome.worker_id]
        underway.handed_s = self._now_s
        tokens = TraceTokens(underway.job, self._fresh)
        node = self._nodes[underway.worker]
        node.core.submit(SimRun(key.request_id, tokens, underway.job.output_tokens))
        if not node.busy:
            node.busy = True
            self._at(self._now_s, lambda: self._step(node))

    def _step(self, node: Node) -> None:
        if node.core.is_idle:
            node.busy = False
            return
        step = node.core.begin()
        for run in step.admitted:
            underway = self._underway[run.run_id]
            underway.scheduled_s = self._now_s
            underway.decoding = step.decoding
            underway.cached_tokens = run.cached_tokens
        self._at(self._now_s + step.duration_s, lambda: self._end_step(node))

    def _end_step(self, node: Node) -> None:
        for emitted in node.core.finish():
            if emitted.run.made == 1:
                self._note_first(node, emitted.run)
            if emitted.is_last:
                self._finish(emitted)
        self._tell_changes(node)
        self._report_if_due(node)
        self._hand_late()
        self._step(node)

    def _note_first(self, node: Node, run: SimRun) -> None:
        underway = self._underway[run.run_id]
        underway.first_s = self._now_s
        node.prefills.append(
            Prefill(
                request_id=run.run_id,
                computed_tokens=run.prompt_tokens - run.cached_tokens,
                cached_tokens=run.cached_tokens,
                queue_s=underway.scheduled_s - underway.handed_s,
                prefill_s=self._now_s - underway.scheduled_s,
                decoding_requests=underway.decoding,
            )
        )

    def _finish(self, emitted: Emitted) -> None:
        run_id = emitted.run.run_id
        underway = self._underway.pop(run_id)
        served = Served(
            underway.job,
            underway.worker,
            underway.cached_tokens,
            emitted.run.made,
            underway.first_s,
            self._now_s,
        )
        self._served.append(served)
        key = Key(OWNER, run_id)
        if self._on_end is not None:
            self._on_end(key)
        ended = Ended(served.ttft_s, emitted.run.made, emitted.run.made)
        self._scheduler.finish(key, self._now_s, ended)

    def _tell_changes(self, node: Node) -> None:
        for batch in news.batches(node.core.take_changes()):
            change = KvChange(sequence=node.sequence, stored=batch[0], removed=batch[1])
            node.sequence += 1
            self._send(self._scheduler.change, node.member, change)

    def _report_if_due(self, node: Node) -> None:
        interval_s = HEARTBEAT_S / 2
        if node.reporting.is_due(node.core.load, False, self._now_s, interval_s):
            self._report(node)
        elif not node.looks:
            node.looks = True
            self._at(self._now_s + interval_s, lambda: self._look(node))

    def _look(self, node: Node) -> None:
        node.looks = False
        if not node.busy:  # else the step's end looks
            self._report(node)

    def _report(self, node: Node) -> None:
        message = node.reporting.report(node.core.load, node.prefills, False, self._now_s)
        node.prefills.clear()
        self._send(self._scheduler.report, node.member, read_report(message))

    def _send(
        self, tell: Callable[[Member, Any, float], object], member: Member, told: Any
    ) -> None:
        def arrive() -> None:
            tell(member, told, self._now_s)
            self._hand_late()

        self._at(self._now_s + DELAY_S, arrive)
