"""The gRPC door: reads a message, has it encoded, briefly or on a thread, writes the answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from services.tokenizer.batch import Batch, Encodings
from services.tokenizer.models import Model
from services.tokenizer.outcomes import OutsideVocabulary
from services.tokenizer.overtaking import overtake
from services.tokenizer.threads import Threads
from services.tokenizer.wire import STATUS, write_model, write_refusal, write_response

SERVICE = "headway.tokenizer.v1.TokenizerService"

# Of one stream. More are not read: HTTP/2's flow control then slows the caller.
BATCHES_IN_FLIGHT = 16

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[pb.EncodeBatchesRequest]


class TokenizerServer(rpc.TokenizerServiceServicer):
    """Implements `headway.tokenizer.v1.TokenizerService`."""

    def __init__(self, encodings: Encodings, threads: Threads) -> None:
        self._encodings = encodings
        self._threads = threads
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Read no more batches; every stream ends when what it sent is answered."""
        self._draining.set()

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Encode one prompt."""
        batch = await self._encoded([request])
        [result] = batch.results
        if result.HasField("refused"):
            await _refuse(context, result.refused)
        return write_response(result.encoded)

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:
        """Decode token ids."""
        model = self._encodings.models.find(request.model)
        if not isinstance(model, Model):
            await _refuse(context, write_refusal(model))
        text = await self._threads.begin(
            model.vocabulary.decode, tuple(request.token_ids), request.keep_special_tokens
        )
        if isinstance(text, OutsideVocabulary):
            await _refuse(context, write_refusal(text))
        if not request.list_tokens:
            return pb.DecodeResponse(text=text)
        tokens = await self._threads.begin(model.vocabulary.spell, tuple(request.token_ids))
        return pb.DecodeResponse(text=text, tokens=tokens)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """List the models."""
        return pb.ListModelsResponse(models=map(write_model, self._encodings.models))

    async def EncodeBatches(
        self, requests: Requests, context: Context
    ) -> AsyncIterator[pb.EncodeBatchesResponse]:
        """Encode batches; the answers may overtake one another."""

        async def read() -> pb.EncodeBatchesRequest | None:
            request = await context.read()
            return request if isinstance(request, pb.EncodeBatchesRequest) else None

        async for response in overtake(read, self._answer, BATCHES_IN_FLIGHT, self._draining):
            yield response

    def _answer(self, request: pb.EncodeBatchesRequest) -> asyncio.Future[pb.EncodeBatchesResponse]:
        return asyncio.ensure_future(self._answered(request))

    async def _answered(self, request: pb.EncodeBatchesRequest) -> pb.EncodeBatchesResponse:
        batch = await self._encoded(request.items)
        return pb.EncodeBatchesResponse(batch=request.batch, results=batch.results)

    async def _encoded(self, messages: Any) -> Batch:
        received_ns = time.monotonic_ns()
        if self._encodings.is_brief(messages):
            batch = self._encodings.encode(messages, received_ns)
        else:
            batch = await self._threads.begin(self._encodings.encode, messages, received_ns)
        if self._encodings.is_sampled(batch):
            self._threads.begin(self._encodings.record, batch)
        return batch


async def _refuse(context: Context, refused: pb.Refused) -> NoReturn:
    await context.abort(STATUS[refused.reason], refused.message)
    raise AssertionError("abort raises")
