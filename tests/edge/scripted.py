"""The services around the edge, in process on real gRPC, each doing what a test tells it.

The vocabulary is Unicode: a token is a code point. A worker answers every prompt with its
`story`, one character a step, and goes on after what another worker generated.
"""

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.scheduler.v1 import scheduler_pb2_grpc as scheduler_rpc
from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.tokenizer.v1 import tokenizer_pb2_grpc as tokenizer_rpc
from headway.worker.v1 import worker_pb2 as worker
from headway.worker.v1 import worker_pb2_grpc as worker_rpc

MODEL = "story"
EMBEDDING_MODEL = "vector"
ADAPTER = "poet"
CONTEXT = 200
TIMINGS_US = 1000  # what each hop says of each of its stages


Servicer = TypeVar("Servicer")


def script(servicer: Callable[[], Servicer]) -> Servicer:
    """Make a scripted service; the calls that it leaves out answer UNIMPLEMENTED, as gRPC's do."""
    return servicer()


class ScriptedTokenizer(tokenizer_rpc.TokenizerServiceServicer):
    """Encodes characters. While `dead` it breaks every stream that asks."""

    def __init__(self) -> None:
        self.dead = False
        self.forgets = False  # answers a batch with no results
        self.hold_large = False  # answer no batch of 10 kB or more before `release`
        self.holds = asyncio.Event()
        self.release = asyncio.Event()
        self.batches: list[int] = []
        self.asked: list[tokenizer.EncodeRequest] = []

    async def EncodeBatches(
        self, requests: AsyncIterator[tokenizer.EncodeBatchesRequest], context: Any
    ) -> AsyncIterator[tokenizer.EncodeBatchesResponse]:
        async for request in requests:
            if self.dead:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "dead")
            if self.hold_large and request.ByteSize() >= 10_000:
                self.holds.set()
                await self.release.wait()
            self.batches.append(len(request.items))
            self.asked += request.items
            results = [] if self.forgets else [self._encode(item) for item in request.items]
            yield tokenizer.EncodeBatchesResponse(batch=request.batch, results=results)

    async def Decode(
        self, request: tokenizer.DecodeRequest, context: Any
    ) -> tokenizer.DecodeResponse:
        if self.dead:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "dead")
        if max(request.token_ids, default=0) > 0x10FFFF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such token id")
        text = "".join(map(chr, request.token_ids))
        return tokenizer.DecodeResponse(text=text, tokens=text if request.list_tokens else ())

    def _encode(self, item: tokenizer.EncodeRequest) -> tokenizer.EncodeResult:
        if item.HasField("chat"):
            text = "".join(message.content for message in item.chat.messages)
        else:
            text = item.text or "".join(map(chr, item.token_ids.ids))
        if "refuse" in text:
            field = "template_kwargs_json" if item.chat.template_kwargs_json else ""
            refused = tokenizer.Refused(
                reason=tokenizer.REFUSAL_REASON_TEMPLATE,
                message="The template refused",
                parameter=field,
            )
            return tokenizer.EncodeResult(refused=refused)
        ids = array("I", map(ord, text))
        timings = tokenizer.EncodeTimings(queue_us=TIMINGS_US // 1000, render_us=1, tokenize_us=1)
        encoded = tokenizer.Encoded(token_ids=ids.tobytes(), block_size=16, timings=timings)
        return tokenizer.EncodeResult(encoded=encoded)


class ScriptedScheduler(scheduler_rpc.SchedulerServiceServicer):
    """Places on the first worker of the model that is not excluded."""

    def __init__(self) -> None:
        self.fleet: list[scheduler.FleetWorker] = []
        self.turn_away: scheduler.TurnedAway | None = None
        self.hold = False
        self.room = 1000  # requests that may run at once; the others wait
        self._waiting: list[scheduler.PlaceRequest] = []
        self.takes_turns = False  # among the workers, and not always the first
        self._turns = 0
        self.asked: list[scheduler.PlaceRequest] = []
        self.finished: list[scheduler.FinishRequest] = []
        self.withdrawn: list[str] = []
        self.heard = asyncio.Condition()

    async def WatchFleet(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield scheduler.WatchFleetResponse(workers=self.fleet)
        await asyncio.Event().wait()

    async def PlaceBatches(
        self, requests: AsyncIterator[scheduler.PlaceBatchesRequest], context: Any
    ) -> AsyncIterator[scheduler.PlaceBatchesResponse]:
        async for request in requests:
            async with self.heard:
                self.asked += [item.request for item in request.items]
                self.finished += request.finished
                self.withdrawn += request.withdrawn
                self.heard.notify_all()
            self._waiting += [] if self.hold else [item.request for item in request.items]
            self.room += len(request.finished)
            placing, self._waiting = self._waiting[: self.room], self._waiting[self.room :]
            self.room -= len(placing)
            results = [self._place(each) for each in placing]
            yield scheduler.PlaceBatchesResponse(batch=request.batch, results=results)

    def _place(self, request: scheduler.PlaceRequest) -> scheduler.PlaceResult:
        open_workers = [
            w
            for w in self.fleet
            if w.worker_id not in request.excluded_workers and request.model in w.models
        ]
        turn_away = self.turn_away
        if turn_away is None and not open_workers:
            reason = scheduler.TURNED_AWAY_REASON_FLEET_EMPTY
            turn_away = scheduler.TurnedAway(reason=reason, message="No worker is live.")
        if turn_away is not None:
            return scheduler.PlaceResult(request_id=request.request_id, turned_away=turn_away)
        chosen = open_workers[self._turns % len(open_workers)]
        self._turns += self.takes_turns
        placed = scheduler.PlaceResponse(
            worker_id=chosen.worker_id,
            address=chosen.address,
            timings=scheduler.PlaceTimings(admission_queue_us=1, place_us=1),
            decision=scheduler.Decision(policy="first", candidates=len(open_workers)),
        )
        return scheduler.PlaceResult(request_id=request.request_id, placed=placed)

    async def until(self, condition: Any) -> None:
        """Wait until what the edge reported fulfils `condition`."""
        async with self.heard:
            await self.heard.wait_for(lambda: condition(self))


@dataclass
class ScriptedWorker(worker_rpc.WorkerServiceServicer):
    """Tells its story. `fails_after` steps it breaks the pipe, or answers `failure`."""

    story: str = "once upon a time"
    fails_after: int | None = None
    failure: worker.Failed | None = None
    hangs_after: int | None = None
    in_one_frame: bool = False
    tells: list[worker.Delta] | None = None  # instead of the story, a frame for each
    width: int = 1  # how often a delta's text repeats its character
    paced: bool = False  # a frame leaves only after `step` was set
    step: asyncio.Event = field(default_factory=asyncio.Event)
    open_pipes: int = 0
    opened_pipes: int = 0  # ever
    asked: list[worker.GenerateRequest] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def Pipe(
        self, requests: AsyncIterator[worker.PipeRequest], context: Any
    ) -> AsyncIterator[worker.PipeResponse]:
        frames: asyncio.Queue[worker.PipeResponse | None] = asyncio.Queue()
        reader = asyncio.create_task(self._read(requests, frames))
        self.open_pipes += 1
        self.opened_pipes += 1
        try:
            while (frame := await frames.get()) is not None:
                if self.paced:
                    await self.step.wait()
                    self.step.clear()
                yield frame
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker died")
        finally:
            reader.cancel()
            async with self.heard:
                self.open_pipes -= 1
                self.heard.notify_all()

    async def _read(
        self,
        requests: AsyncIterator[worker.PipeRequest],
        frames: "asyncio.Queue[worker.PipeResponse | None]",
    ) -> None:
        async for request in requests:
            async with self.heard:
                self.asked += [start.generate for start in request.start]
                self.aborted += request.abort
                self.heard.notify_all()
            for start in request.start:
                self._tell(start.request, start.generate, frames)

    def _tell(
        self,
        number: int,
        request: worker.GenerateRequest,
        frames: "asyncio.Queue[worker.PipeResponse | None]",
    ) -> None:
        if self.tells is not None:
            for delta in self.tells:
                numbered = worker.Delta(request=number)
                numbered.MergeFrom(delta)
                frames.put_nowait(worker.PipeResponse(deltas=[numbered]))
            return
        told = len(request.generated) // 4
        limit = min(len(self.story), request.sampling.max_tokens or CONTEXT)
        if self.in_one_frame:
            deltas = [
                self._delta(number, request, 0, i - told, i, limit) for i in range(told, limit)
            ]
            frames.put_nowait(worker.PipeResponse(deltas=deltas))
            return
        for step, position in enumerate(range(told, limit)):
            if step == self.hangs_after:
                return
            if step == self.fails_after:
                frames.put_nowait(self._failure(number))
                return
            deltas = [
                self._delta(number, request, choice, step, position, limit)
                for choice in range(request.sampling.choices)
            ]
            frames.put_nowait(_frame(deltas))

    def _failure(self, number: int) -> worker.PipeResponse | None:
        if self.failure is None:
            return None
        return worker.PipeResponse(deltas=[worker.Delta(request=number, failed=self.failure)])

    def _delta(
        self,
        number: int,
        request: worker.GenerateRequest,
        choice: int,
        step: int,
        position: int,
        limit: int,
    ) -> worker.Delta:
        character = self.story[position]
        delta = worker.Delta(
            request=number,
            choice=choice,
            text=character * self.width,
            token_ids=[ord(character)],
        )
        if request.sampling.HasField("logprobs"):
            delta.logprobs.append(_logprobs(character, position))
        if step == 0 and choice == 0:
            delta.started.timings.prefill_us = 1
            delta.started.cached_tokens = 3
            if request.sampling.HasField("prompt_logprobs"):
                prompt = map(chr, array("I", request.prompt))
                delta.started.prompt_logprobs.extend(_logprobs(each, 0) for each in prompt)
        if position + 1 == limit:
            whole = limit == len(self.story)
            reason = worker.FINISH_REASON_STOP if whole else worker.FINISH_REASON_LENGTH
            delta.finish.reason = reason
            delta.finish.completion_tokens = limit
        return delta

    async def until(self, condition: Any) -> None:
        """Wait until what the edge asked fulfils `condition`."""
        async with self.heard:
            await self.heard.wait_for(lambda: condition(self))


def _logprobs(character: str, offset: int) -> worker.TokenLogprobs:
    token = worker.TokenLogprob(token_id=ord(character), logprob=-1, text=character.encode())
    return worker.TokenLogprobs(token=token, top=[token], text_offset=offset)


def _frame(deltas: list[worker.Delta]) -> worker.PipeResponse:
    """A frame as workers write it: what brings tokens alone is plain."""
    frame = worker.PipeResponse()
    for delta in deltas:
        if delta.HasField("started") or delta.HasField("finish") or delta.logprobs:
            frame.deltas.append(delta)
        else:
            frame.plain.requests.append(delta.request)
            frame.plain.choices.append(delta.choice)
            frame.plain.texts.append(delta.text)
            frame.plain.token_ids.append(array("I", delta.token_ids).tobytes())
    return frame


@dataclass
class ScriptedEmbedder(worker_rpc.WorkerServiceServicer):
    """Embeds an input as its length and its first character, which make no unit vector."""

    status: grpc.StatusCode | None = None  # answers this instead
    holds: bool = False  # answers nothing before `release`
    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[worker.EmbedRequest] = field(default_factory=list)
    cancelled: int = 0
    running: int = 0
    most_running: int = 0
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def Embed(self, request: worker.EmbedRequest, context: Any) -> worker.EmbedResponse:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        async with self.heard:
            self.asked.append(request)
            self.heard.notify_all()
        try:
            if self.status is not None:
                await context.abort(self.status, "the worker says so")
            if self.holds:
                await self.release.wait()
        except asyncio.CancelledError:
            async with self.heard:
                self.cancelled += 1
                self.heard.notify_all()
            raise
        finally:
            self.running -= 1
        ids = array("I", request.tokens)
        return worker.EmbedResponse(values=[len(ids), ids[0], 1.0], prompt_tokens=len(ids))

    async def until(self, condition: Any) -> None:
        """Wait until what the edge asked fulfils `condition`."""
        async with self.heard:
            await self.heard.wait_for(lambda: condition(self))
