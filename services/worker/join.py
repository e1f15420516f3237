"""Keeps the worker in the fleet: hello, reports and cache changes on one stream."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc
from services.serving import CHANNEL_OPTIONS
from services.worker.engine import BlocksRemoved, BlocksStored, CacheForgotten, Engine, EngineFacts
from services.worker.identity import Identity, new_epoch
from services.worker.kv import CachedBlocks, Outbox
from services.worker.metrics import Metrics
from services.worker.reports import Reporting
from services.worker.worker import Worker

# News is gathered for so long. Each message wakes the scheduler, and costs it more than what it
# says; of what a placed request stores it knows already.
GATHER_S = 0.25
TICK_S = 0.05  # then a load that changed much is looked for so often
LONGEST_WAIT_S = 2.0  # between two attempts to join

_KINDS = {"generate": pb.WORKER_KIND_GENERATE, "embed": pb.WORKER_KIND_EMBED}

JoinCall = grpc.aio.StreamStreamCall[pb.JoinRequest, pb.JoinResponse]


class JoinEnded(Exception):
    """The scheduler closed the stream before it said welcome."""


class Joining:
    """The worker's side of `Join`, for as long as the worker lives."""

    def __init__(
        self,
        identity: Identity,
        facts: EngineFacts,
        engine: Engine,
        worker: Worker,
        metrics: Metrics,
    ) -> None:
        self._identity = identity
        self._facts = facts
        self._engine = engine
        self._worker = worker
        self._metrics = metrics
        self._blocks = CachedBlocks(identity.models[0])
        self._outbox = Outbox(self._blocks)
        self._reporting = Reporting(facts.step_budget_tokens)
        self._news = asyncio.Event()
        self._epoch_over = asyncio.Event()
        self._log = structlog.get_logger(service="worker", worker=identity.worker_id)

    async def follow_cache(self) -> None:
        """Keep book of what the engine caches, joined or not."""
        async for events in self._engine.kv_events():
            known: list[BlocksStored | BlocksRemoved] = []
            for event in events:
                if isinstance(event, CacheForgotten):
                    known.clear()
                    self._start_epoch()
                else:
                    known.append(event)
            self._outbox.add(self._blocks.apply(known))
            self._news.set()

    async def stay_joined(self, scheduler: str, on_welcome: Callable[[], Awaitable[None]]) -> None:
        """Join, and join again whenever the stream ends. Never returns."""
        async with grpc.aio.insecure_channel(scheduler, options=CHANNEL_OPTIONS) as channel:
            stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
            while True:
                call, heartbeat_s = await self._join(stub)
                self._metrics.joins.inc()
                self._log.info("joined", scheduler=scheduler, epoch=self._identity.epoch)
                await on_welcome()
                await self._converse(call, heartbeat_s)

    async def _join(self, stub: Any) -> tuple[JoinCall, float]:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type((grpc.aio.AioRpcError, JoinEnded)),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT_S),
            before_sleep=self._note_refusal,
        )
        joined: tuple[JoinCall, float] = await attempts(self._attempt, stub)
        return joined

    async def _attempt(self, stub: Any) -> tuple[JoinCall, float]:
        call: JoinCall = stub.Join()
        await call.write(pb.JoinRequest(hello=self._hello()))
        answer = await call.read()
        if not isinstance(answer, pb.JoinResponse) or not answer.HasField("welcome"):
            call.cancel()
            raise JoinEnded("the scheduler closed the stream")
        return call, answer.welcome.heartbeat_ms / 1e3

    def _note_refusal(self, state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            reason = str(state.outcome.exception()).partition("\n")[0]
            self._log.warning("the scheduler cannot be joined, trying on", reason=reason)

    async def _converse(self, call: JoinCall, heartbeat_s: float) -> None:
        """Speak and listen until the stream ends or the epoch does."""
        self._outbox.start_over()
        speaking = asyncio.create_task(self._speak(call, heartbeat_s))
        listening = asyncio.create_task(self._listen(call))
        both = {speaking, listening}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            call.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        self._log.warning("left the fleet", reason=_reason(ends))

    async def _speak(self, call: JoinCall, heartbeat_s: float) -> None:
        self._epoch_over.clear()
        while not self._epoch_over.is_set():
            self._news.clear()
            if not self._outbox.is_empty:
                await call.write(pb.JoinRequest(kv=self._change()))
            # Twice in an interval, so that a late one is not a missing one.
            await self._report_if_due(call, heartbeat_s / 2)
            await _until(self._epoch_over, min(GATHER_S, heartbeat_s / 2))
            await _until(self._news, min(TICK_S, heartbeat_s / 4))

    async def _report_if_due(self, call: JoinCall, interval_s: float) -> None:
        now_s, load = time.monotonic(), self._engine.load()
        draining, adapters = self._worker.is_draining, self._worker.adapters
        if not self._reporting.is_due(load, draining, now_s, interval_s, adapters.loaded):
            return
        prefills, loads = list(self._worker.prefills), list(adapters.loads)
        report = self._reporting.report(load, prefills, draining, now_s, adapters.loaded, loads)
        try:
            await call.write(pb.JoinRequest(report=report))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            self._reporting.take_back()
            raise
        _drop(self._worker.prefills, len(prefills))
        _drop(adapters.loads, len(loads))

    async def _listen(self, call: JoinCall) -> None:
        while isinstance(answer := await call.read(), pb.JoinResponse):
            if answer.HasField("drain"):
                self._worker.drain()

    def _start_epoch(self) -> None:
        self._identity.epoch = new_epoch()
        self._epoch_over.set()
        self._blocks.clear()
        self._outbox.start_epoch()

    def _change(self) -> pb.KvChange:
        sequence, is_snapshot, change = self._outbox.take()
        return pb.KvChange(
            sequence=sequence, snapshot=is_snapshot, stored=change.stored, removed=change.removed
        )

    def _hello(self) -> pb.Hello:
        identity, facts = self._identity, self._facts
        return pb.Hello(
            worker_id=identity.worker_id,
            address=identity.address,
            epoch=identity.epoch,
            kind=_KINDS[identity.kind],
            models=identity.models,
            adapters=identity.adapters,
            block_size=facts.block_size,
            capacity_blocks=facts.capacity_blocks,
            max_running=facts.max_running,
            step_budget_tokens=facts.step_budget_tokens,
            max_model_tokens=facts.max_model_tokens,
            engine=facts.engine,
        )


async def _until(event: asyncio.Event, longest_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(longest_s):
            await event.wait()


def _drop(waiting: deque[Any], count: int) -> None:
    """What was sent waits no longer; what came meanwhile does."""
    for _ in range(count):
        waiting.popleft()


def _reason(ends: list[BaseException | None]) -> str:
    """Why the stream ended. Raises what is no end of a stream."""
    for end in ends:
        if isinstance(end, grpc.aio.AioRpcError):
            return f"{end.code().name}: {end.details()}"
    for end in ends:
        # A write on a stream that has ended meanwhile is an InvalidStateError.
        if isinstance(end, Exception) and not isinstance(end, asyncio.InvalidStateError):
            raise end
    return "the stream ended"
