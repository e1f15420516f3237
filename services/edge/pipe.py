"""The hop to a worker: one stream carries all requests of this edge; frames come back."""

import asyncio
import time
from array import array
from typing import Protocol

import grpc

from headway.worker.v1 import worker_pb2 as pb
from headway.worker.v1 import worker_pb2_grpc as rpc
from services.edge.conversation import BROKEN, Conversation
from services.serving import CHANNEL_OPTIONS

Item = pb.StartRequest | int  # to start, to abort


class Sink(Protocol):
    """Where the deltas of one request go."""

    def carry(self, choice: int, text: str, token_ids: bytes) -> bool:
        """Hand plain tokens straight on to the client if that can be done now; else `put` comes."""

    def put(self, delta: pb.Delta | None, received_s: float) -> None:
        """Take a delta of a frame received at monotonic `received_s`; None: the pipe is lost."""


class Pipe:
    """One worker's stream. Numbers requests; delivers each delta to its request's sink."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub: rpc.WorkerServiceAsyncStub = rpc.WorkerServiceStub(self._channel)
        self._sinks: dict[int, Sink] = {}
        self._last = 0
        self._rests_since_s = time.monotonic()  # while no request runs
        self.is_lost = False  # it carries nothing any more
        self._conversation: Conversation[Item, pb.PipeRequest, pb.PipeResponse] = Conversation(
            self, acknowledged=False
        )

    @property
    def idle(self) -> bool:
        """Whether no request runs on it."""
        return not self._sinks

    def idle_s(self, now_s: float) -> float:
        """For how long no request has run on it; 0 while one does."""
        return now_s - self._rests_since_s if self.idle else 0.0

    def start(self, request: pb.GenerateRequest, sink: Sink) -> int:
        """Start a request; its number on this pipe is what `abort` takes."""
        self._last += 1
        self._sinks[self._last] = sink
        self._conversation.put(pb.StartRequest(request=self._last, generate=request))
        return self._last

    def ended(self, number: int) -> None:
        """The request's last delta came: expect no more."""
        self._sinks.pop(number, None)
        self._rests_since_s = time.monotonic()

    def abort(self, number: int) -> None:
        """End a request, unless it has ended already."""
        if self._sinks.pop(number, None) is not None:
            self._rests_since_s = time.monotonic()
            self._conversation.put(number)

    async def run(self) -> None:
        """Carry requests until the stream breaks."""
        try:
            await self._conversation.converse()
        except BROKEN:
            pass  # every sink was told by `lost`
        finally:
            await self._channel.close()

    def open(self) -> "grpc.aio.StreamStreamCall[pb.PipeRequest, pb.PipeResponse]":
        """Start the stream."""
        return self._stub.Pipe()

    def compose(self, batch: int, items: list[Item]) -> pb.PipeRequest:
        """The message of what gathered."""
        starts = [item for item in items if not isinstance(item, int)]
        return pb.PipeRequest(start=starts, abort=[item for item in items if isinstance(item, int)])

    def receive(self, response: pb.PipeResponse) -> bool:
        """Deliver a frame. The hot path; relay.py says what it may do."""
        now_s = time.monotonic()
        sinks = self._sinks
        plain = response.plain
        columns = plain.requests, plain.choices, plain.texts, plain.token_ids
        # An aborted request's last deltas cross the abort: then there is no sink.
        for number, choice, text, token_ids in zip(*columns, strict=True):
            sink = sinks.get(number)
            if sink is not None and not sink.carry(choice, text, token_ids):
                sink.put(_delta(number, choice, text, token_ids), now_s)
        for delta in response.deltas:
            sink = sinks.get(delta.request)
            if sink is not None:
                sink.put(delta, now_s)
                if delta.HasField("failed"):
                    sinks.pop(delta.request, None)  # it is lost once, also if the pipe breaks next
        return False

    def lost(self) -> None:
        """Tell every request on the pipe."""
        self.is_lost = True
        sinks, self._sinks = self._sinks, {}
        now_s = time.monotonic()
        for sink in sinks.values():
            sink.put(None, now_s)


def _delta(number: int, choice: int, text: str, token_ids: bytes) -> pb.Delta:
    return pb.Delta(request=number, choice=choice, text=text, token_ids=array("I", token_ids))


class Pipes:
    """The open pipes, by worker address: opened on first use, gone when they break or rest.

    A pipe on which no request ran for `idle_s` is closed, so that an edge holds a stream to the
    workers that it uses and not to all that there are.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._pipes: dict[str, tuple[Pipe, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # also of those that are closing

    def to(self, address: str) -> Pipe:
        """The pipe to the worker at this address."""
        found = self._pipes.get(address)
        # A broken pipe is here for another turn: what started on it now would wait for ever.
        if found is not None and not found[0].is_lost:
            return found[0]
        pipe = Pipe(address)
        task = asyncio.create_task(pipe.run())
        self._pipes[address] = (pipe, task)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._forget(address, pipe, task))
        self._look_again(address, pipe, self._idle_s)
        return pipe

    def keep(self, addresses: set[str]) -> None:
        """Close the idle pipes to workers that left the fleet."""
        for address, (pipe, _) in list(self._pipes.items()):
            if address not in addresses and pipe.idle:
                self._end(address)

    async def close(self) -> None:
        """Close them all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look_again(self, address: str, pipe: Pipe, later_s: float) -> None:
        asyncio.get_running_loop().call_later(later_s, self._end_if_idle, address, pipe)

    def _end_if_idle(self, address: str, pipe: Pipe) -> None:
        if not self._holds(address, pipe):
            return
        left_s = self._idle_s - pipe.idle_s(time.monotonic())
        if left_s <= 0:
            self._end(address)
        else:
            self._look_again(address, pipe, left_s)

    def _end(self, address: str) -> None:
        """Close an idle pipe. It is out of reach at once, though its task ends a turn later."""
        _, task = self._pipes.pop(address)
        task.cancel()

    def _forget(self, address: str, pipe: Pipe, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._holds(address, pipe):
            del self._pipes[address]

    def _holds(self, address: str, pipe: Pipe) -> bool:
        found = self._pipes.get(address)
        return found is not None and found[0] is pipe
