"""The gRPC face of the scheduler: reads messages, asks the core, writes answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, NoReturn, TypeVar

import grpc

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from services.scheduler import wire
from services.scheduler.desk import Batches, Desk
from services.scheduler.joining import Answers, Joining
from services.scheduler.listing import write_decisions, write_fleet, write_workers
from services.scheduler.outbox import Ending, Outbox

SERVICE = pb.DESCRIPTOR.services_by_name["SchedulerService"].full_name

TICK_S = 0.05
"""While somebody waits, whose deadline may pass."""
IDLE_TICK_S = 0.5
FIGURES_S = 1.0
DECISIONS_LISTED = 20
ENDS = Ending(grpc.StatusCode.UNAVAILABLE, "the scheduler ends")

M = TypeVar("M")
Context = grpc.aio.ServicerContext[Any, Any]


class SchedulerService(rpc.SchedulerServiceServicer):
    """All RPCs, on one event loop."""

    def __init__(self, desk: Desk, joining: Joining) -> None:
        self._desk = desk
        self._joining = joining
        self._ended = False

    async def tick_forever(self) -> NoReturn:
        """Let time pass for the core. The service is not alive without this task."""
        ticked_s = shown_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s - ticked_s >= TICK_S:
                ticked_s = now_s
                self._joining.tick()
            if now_s - shown_s >= FIGURES_S:
                shown_s = now_s
                self._desk.tick()
            await self._desk.until_waited_for(IDLE_TICK_S)

    def close(self) -> None:
        """End all long-lived streams: their peers fall back, or join the next scheduler."""
        self._ended = True
        self._desk.close(ENDS)
        self._joining.close(ENDS)
        self._desk.wake_watchers()

    def workers(self, model: str) -> pb.ListWorkersResponse:
        """The workers of a model, or all."""
        return write_workers(self._desk.core, model, time.monotonic())

    def decisions(self, limit: int) -> pb.ListDecisionsResponse:
        """The last decisions."""
        return write_decisions(self._desk.core, limit or DECISIONS_LISTED, time.monotonic())

    async def Place(self, request: pb.PlaceRequest, context: Context) -> pb.PlaceResponse:
        """Place one request by hand."""
        try:
            answer = await self._desk.place_by_hand(request)
        except wire.Malformed as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if isinstance(answer, wire.Refusal):
            await _refuse(answer, context)
        return answer

    async def Finish(self, request: pb.FinishRequest, context: Context) -> pb.FinishResponse:
        """Report the end of a placement made by hand."""
        if not self._desk.finish_by_hand(request):
            message = f"request {request.request_id!r} holds no placement"
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return pb.FinishResponse()

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: Context
    ) -> pb.ListWorkersResponse:
        """List the workers."""
        return self.workers(request.model)

    async def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """List the last decisions."""
        return self.decisions(request.limit)

    async def DrainWorker(
        self, request: pb.DrainWorkerRequest, context: Context
    ) -> pb.DrainWorkerResponse:
        """Take a worker out."""
        member = self._joining.drain(request.worker_id)
        if member is None:
            message = f"worker {request.worker_id!r} is not in the fleet"
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        placed = self._desk.core.books.placed[member.slot]
        return pb.DrainWorkerResponse(placed_requests=int(placed))

    # This and `Join` write through the context, not by `yield`: a generator that is left while
    # gRPC writes would give back what it holds only when it is collected.
    async def PlaceBatches(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[pb.PlaceBatchesRequest],
        context: Context,
    ) -> None:
        """Place batches on one long-lived stream."""
        owner, outbox = self._desk.open()
        try:
            await self._converse(
                self._read_batches(owner, request_iterator, outbox), outbox, context
            )
        finally:
            self._desk.release(owner)

    async def WatchFleet(
        self, request: pb.WatchFleetRequest, context: Context
    ) -> AsyncIterator[pb.WatchFleetResponse]:
        """Stream the fleet."""
        while not self._ended:
            changed = self._desk.changed  # taken first: no change is missed while writing
            yield write_fleet(self._desk.core.fleet)
            await changed.wait()
        await context.abort(ENDS.code, ENDS.message)

    async def Join(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.JoinRequest], context: Context
    ) -> None:
        """Join the fleet."""
        answers: Answers = Outbox()
        await self._converse(self._joining.listen(request_iterator, answers), answers, context)

    async def _read_batches(
        self, owner: int, messages: AsyncIterator[pb.PlaceBatchesRequest], outbox: Batches
    ) -> None:
        async for message in messages:
            if not message.batch:
                outbox.close(Ending(grpc.StatusCode.INVALID_ARGUMENT, "batch must be at least 1"))
                return
            self._desk.batch(owner, message)
            await outbox.room()

    async def _converse(
        self, reading: Coroutine[Any, Any, None], outbox: Outbox[M], context: Context
    ) -> None:
        """Read and write at once, until either side ends the stream."""
        if self._ended:
            outbox.close(ENDS)
        reader = asyncio.create_task(reading)
        reader.add_done_callback(lambda _: outbox.close())
        try:
            async for message in outbox:
                await context.write(message)
            if outbox.ending is not None:
                await context.abort(outbox.ending.code, outbox.ending.message)
            await reader
        finally:
            reader.cancel()
            await asyncio.wait({reader})


async def _refuse(refusal: wire.Refusal, context: Context) -> NoReturn:
    retry_s = refusal.retry_after_s
    # gRPC's own word for "try again after".
    pushback = () if retry_s is None else (("grpc-retry-pushback-ms", f"{retry_s * 1000:.0f}"),)
    await context.abort(refusal.status, refusal.message, pushback)
