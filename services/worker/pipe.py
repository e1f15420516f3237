"""One edge's pipe: its requests' deltas, gathered into a frame for each turn of the loop."""

import asyncio
from collections.abc import Awaitable, Callable

from headway.worker.v1 import worker_pb2 as pb
from services.worker.calls import Calls
from services.worker.requests import Failure
from services.worker.stages import FirstTokenTimes
from services.worker.wire import DeltaWriter, write_departure, write_failure, write_plain
from services.worker.worker import Delta, Running

Send = Callable[[pb.PipeResponse], Awaitable[None]]

# Deltas of a frame that does not leave. Beyond it the pipe's own requests wait, and their
# engine outputs merge: a slow edge gets larger deltas, not a larger buffer here.
FRAME_LIMIT = 1024


class FrameWriter:
    """Gathers deltas while a frame is being written; writes them as the next one."""

    def __init__(self, send: Send, deltas: DeltaWriter) -> None:
        self._send = send
        self._deltas = deltas
        self._frame = pb.PipeResponse()
        self._count = 0
        self._is_closed = False
        self._starts: list[tuple[FirstTokenTimes, pb.Started]] = []
        self._told: set[int] = set()  # requests that have a delta of their own in the frame
        self._ready = asyncio.Event()
        self._sent = asyncio.Event()

    async def put(self, request: int, delta: Delta) -> None:
        """Add a delta to the frame that leaves next; waits while that is full."""
        await self._room()
        if request not in self._told and _is_plain(delta):
            write_plain(delta, request, self._frame.plain)
            self._added()
            return
        self._told.add(request)  # an edge reads the plain ones first
        to = self._frame.deltas.add()
        self._deltas.write(delta, request, to)
        if delta.started is not None:
            self._starts.append((delta.started.times, to.started))
        self._added()

    async def put_failure(self, request: int, failure: Failure) -> None:
        """Add the end of a request that failed."""
        await self._room()
        to = self._frame.deltas.add()
        to.request = request
        write_failure(failure, to.failed)
        self._added()

    async def run(self) -> None:
        """Write frames until closed. All that a turn of the loop brought leaves in one."""
        while self._count or not self._is_closed:
            await self._ready.wait()
            self._ready.clear()
            if self._count:
                await self._send_frame()

    def close(self) -> None:
        """Let `run` return once all is written."""
        self._is_closed = True
        self._ready.set()

    async def _send_frame(self) -> None:
        frame, starts = self._frame, self._starts
        self._frame, self._starts, self._count = pb.PipeResponse(), [], 0
        self._told.clear()
        self._sent.set()
        for times, started in starts:
            write_departure(times, started)
        await self._send(frame)

    async def _room(self) -> None:
        while self._count >= FRAME_LIMIT:
            self._sent.clear()
            await self._sent.wait()

    def _added(self) -> None:
        self._count += 1
        self._ready.set()


def _is_plain(delta: Delta) -> bool:
    piece = delta.piece
    return delta.started is None and piece.finish is None and not piece.logprobs


class EdgePipe:
    """The requests of one pipe. When it closes, none of them is left."""

    def __init__(self, calls: Calls, send: Send) -> None:
        self._calls = calls
        self._frames = FrameWriter(self._counted(send), calls.deltas)
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
        answer = self._calls.admit(start.generate, arrived_s)
        task = asyncio.create_task(self._serve(start.request, answer))
        self._tasks[start.request] = task
        if isinstance(answer, Running):
            self._running[start.request] = answer
        task.add_done_callback(lambda _: self._forget(start.request, answer))

    def _forget(self, number: int, answer: Running | Failure) -> None:
        self._tasks.pop(number)
        self._running.pop(number, None)
        if isinstance(answer, Running):  # a task cancelled before it began did not do this
            self._calls.worker.forget(answer)

    async def _serve(self, number: int, answer: Running | Failure) -> None:
        async def put(delta: Delta) -> None:
            await self._frames.put(number, delta)

        failure = await self._calls.serve(answer, put) if isinstance(answer, Running) else answer
        if failure is not None:
            await self._frames.put_failure(number, failure)

    def _counted(self, send: Send) -> Send:
        async def counted(frame: pb.PipeResponse) -> None:
            self._calls.metrics.frames.inc()
            await send(frame)

        return counted
