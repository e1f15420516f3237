"""One edge's pipe: its requests' deltas, gathered into a frame for each turn of the loop."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from headway.worker.v1 import worker_pb2 as pb
from services.worker.calls import Calls
from services.worker.choice import Piece
from services.worker.metrics import Metrics
from services.worker.relay import Running, Started
from services.worker.requests import Failure
from services.worker.stages import FirstTokenTimes
from services.worker.wire import (
    DeltaWriter,
    add_to_plain,
    write_departure,
    write_failure,
    write_plain,
)

Send = Callable[[pb.PipeResponse], Awaitable[None]]


class FrameWriter:
    """Gathers deltas while a frame is being written; writes them as the next one.

    What is new in a choice is added to the delta that waits for it: an edge that reads slowly gets
    larger deltas, and never more of them than it has choices.
    """

    def __init__(self, send: Send, deltas: DeltaWriter, metrics: Metrics) -> None:
        self._send = send
        self._deltas = deltas
        self._metrics = metrics
        self._is_closed = False
        self._ready = asyncio.Event()
        self._begin_frame()

    def put(self, request: int, choice: int, piece: Piece, started: Started | None) -> None:
        """Add what is new in a choice to the frame that leaves next."""
        self._tokens += len(piece.token_ids)
        if request not in self._told and started is None and _is_plain(piece):
            self._put_plain(request, choice, piece)
        else:
            self._put_delta(request, choice, piece, started)
        self._ready.set()

    def put_failure(self, request: int, failure: Failure) -> None:
        """Add the end of a request that failed."""
        write_failure(failure, self._frame.deltas.add(request=request).failed)
        self._ready.set()

    async def run(self) -> None:
        """Write frames until closed. All that a turn of the loop brought leaves in one."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._frame.deltas or self._plain:
                await self._send_frame()
            if self._is_closed:
                return

    def close(self) -> None:
        """Let `run` return once all is written."""
        self._is_closed = True
        self._ready.set()

    def _put_plain(self, request: int, choice: int, piece: Piece) -> None:
        place = self._plain.get((request, choice))
        if place is None:
            self._plain[request, choice] = len(self._plain)
            write_plain(request, choice, piece, self._frame.plain)
        else:
            add_to_plain(place, piece, self._frame.plain)

    def _put_delta(self, request: int, choice: int, piece: Piece, started: Started | None) -> None:
        self._told.add(request)  # an edge reads the plain ones first
        to = self._deltas_of.get((request, choice))
        if to is None:
            to = self._frame.deltas.add(request=request, choice=choice)
            self._deltas_of[request, choice] = to
        self._deltas.write(piece, to)
        if started is not None:
            self._deltas.write_started(started, to.started)
            self._starts.append((started.times, to.started))

    def _begin_frame(self) -> None:
        self._frame = pb.PipeResponse()
        self._tokens = 0
        self._plain: dict[tuple[int, int], int] = {}  # the places of choices in the columns
        self._told: set[int] = set()  # requests that have deltas beside the columns
        self._deltas_of: dict[tuple[int, int], pb.Delta] = {}
        self._starts: list[tuple[FirstTokenTimes, pb.Started]] = []

    async def _send_frame(self) -> None:
        frame = self._frame
        for times, started in self._starts:
            write_departure(times, started)
        self._metrics.generated_tokens.inc(self._tokens)
        self._begin_frame()
        await self._send(frame)


def _is_plain(piece: Piece) -> bool:
    return piece.finish is None and not piece.logprobs and piece.apart is None


class EdgePipe:
    """The requests of one pipe. When it closes, none of them is left."""

    def __init__(self, calls: Calls, send: Send) -> None:
        self._calls = calls
        self._frames = FrameWriter(self._counted(send), calls.deltas, calls.metrics)
        self._writing = asyncio.create_task(self._frames.run())
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running: dict[int, Running] = {}

    def take(self, message: pb.PipeRequest, arrived_s: float) -> None:
        """Start and abort what a message asks for."""
        for start in message.start:
            self._start(start, arrived_s)
        running = [self._running[each] for each in message.abort if each in self._running]
        if running:
            self._calls.abort(running)

    async def drained(self) -> None:
        """Return when all requests have ended: the edge sends no more, but still listens."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        self._frames.close()
        await self._writing

    def close(self) -> None:
        """End everything that runs on this pipe."""
        for task in [*self._tasks.values(), self._writing]:
            task.cancel()
        if self._writing.done() and not self._writing.cancelled():
            self._writing.exception()  # the edge is gone: nobody is left to tell

    def _start(self, start: pb.StartRequest, arrived_s: float) -> None:
        running = self._calls.admit(start.generate, arrived_s)
        if isinstance(running, Failure):
            self._frames.put_failure(start.request, running)
            return
        task = asyncio.create_task(self._serve(start.request, running))
        self._tasks[start.request] = task
        self._running[start.request] = running
        task.add_done_callback(lambda _: self._forget(start.request, running))

    def _forget(self, number: int, running: Running) -> None:
        self._tasks.pop(number)
        self._running.pop(number)
        self._calls.worker.forget(running)  # a task cancelled before it began did not

    async def _serve(self, number: int, running: Running) -> None:
        failure = await self._calls.serve(running, partial(self._frames.put, number))
        if failure is not None:
            self._frames.put_failure(number, failure)

    def _counted(self, send: Send) -> Send:
        async def counted(frame: pb.PipeResponse) -> None:
            self._calls.metrics.frames.inc()
            await send(frame)

        return counted
