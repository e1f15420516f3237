"""The gRPC door: reads a message, asks the worker, writes the answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NoReturn

import grpc

from headway.worker.v1 import worker_pb2 as pb
from headway.worker.v1 import worker_pb2_grpc
from services.worker.calls import Calls
from services.worker.identity import Identity
from services.worker.pipe import EdgePipe, FrameWriter
from services.worker.requests import Failure
from services.worker.wire import STATUS, Malformed, failure_parameter, read_input, single_deltas

Context = grpc.aio.ServicerContext[Any, Any]


class WorkerServer(worker_pb2_grpc.WorkerServiceServicer):
    """Implements `headway.worker.v1.WorkerService`."""

    def __init__(self, calls: Calls, identity: Identity) -> None:
        self._calls = calls
        self._worker = calls.worker
        self._identity = identity

    # The stubs know async generators alone; grpc.aio also takes a coroutine that writes.
    async def Generate(  # type: ignore[override]
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Stream one request, a message for each delta."""
        running = self._calls.admit(request, time.monotonic())
        if isinstance(running, Failure):
            await _fail(context, running)

        async def send(frame: pb.PipeResponse) -> None:
            for delta in single_deltas(frame):
                await context.write(pb.GenerateResponse(delta=delta))

        frames = FrameWriter(send, self._calls.deltas, self._calls.metrics)
        writing = asyncio.create_task(frames.run())
        try:
            failure = await self._calls.serve(running, partial(frames.put, 0))
            frames.close()
            await writing
        finally:
            writing.cancel()
        if failure is not None:
            await _fail(context, failure)

    async def Pipe(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.PipeRequest], context: Context
    ) -> None:
        """Carry all requests of one edge."""
        pipe = EdgePipe(self._calls, context.write)
        try:
            async for message in request_iterator:
                pipe.take(message, time.monotonic())
            await pipe.drained()
        finally:
            pipe.close()

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Embed one input."""
        if self._identity.kind != "embed":
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "this worker generates, it does not embed"
            )
        try:
            tokens = read_input(request)
        except Malformed as error:
            await _fail(context, error.failure)
        values = await self._worker.embed(request.request_id, request.model, tokens)
        if isinstance(values, Failure):
            await _fail(context, values)
        return pb.EmbedResponse(values=values, prompt_tokens=len(tokens))

    async def Abort(self, request: pb.AbortRequest, context: Context) -> pb.AbortResponse:
        """End a running request."""
        running = self._worker.running.get(request.request_id)
        if running is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"request {request.request_id!r} is not running"
            )
        await self._worker.abort([running])
        return pb.AbortResponse()

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        """Describe the worker."""
        identity = self._identity
        facts = identity.facts
        if facts is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine is starting")
        return pb.DescribeResponse(
            worker_id=identity.worker_id,
            epoch=identity.epoch,
            models=identity.models,
            engine=facts.engine,
            requests=len(self._worker.running),
            block_size=facts.block_size,
            capacity_blocks=facts.capacity_blocks,
            max_model_tokens=facts.max_model_tokens,
            vocabulary_size=facts.vocabulary_size,
            draining=self._worker.is_draining,
            adapters=identity.adapters,
            loaded_adapters=self._worker.adapters.loaded,
        )


async def _fail(context: Context, failure: Failure) -> NoReturn:
    await context.abort(STATUS[failure.kind], failure.message, failure_parameter(failure))
    raise AssertionError("abort raises")
