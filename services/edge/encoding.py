"""The hop to the tokenizers: prompts in, token ids and block hashes out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
)

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from headway.tokenizer.v1 import tokenizer_pb2_grpc as rpc
from services.edge.apis.refusals import Invalid, Refusal, Unavailable, UnknownModel
from services.edge.conversation import Conversation
from services.serving import CHANNEL_OPTIONS

ATTEMPTS = 4

# Larger prompts do not share a batch: the others would wait for them, and the ids of a batch of
# them would be more than a message may hold, which breaks the stream for all.
SHARED_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as token ids and block hashes, both in the wire's little-endian form."""

    token_ids: bytes
    block_hashes: bytes
    block_size: int
    timings_us: dict[str, int]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.token_ids) // 4


@dataclass(frozen=True, slots=True)
class _Item:
    message: pb.EncodeRequest
    answered: "asyncio.Future[pb.EncodeResult | None]"  # None when the replica was lost


class Replica:
    """One tokenizer: a stream, and what was sent on it and not yet answered."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub: rpc.TokenizerServiceAsyncStub = rpc.TokenizerServiceStub(self._channel)
        self._sent: dict[int, list[_Item]] = {}
        self._unsent: list[_Item] = []
        self.conversation: Conversation[
            _Item, pb.EncodeBatchesRequest, pb.EncodeBatchesResponse
        ] = Conversation(self, acknowledged=True)
        self.pending = 0

    async def encode(self, message: pb.EncodeRequest) -> pb.EncodeResult | None:
        """The outcome for one prompt, or None when this replica was lost before it answered."""
        self.pending += 1
        try:
            if message.ByteSize() > SHARED_BYTES:
                return await self._encode_alone(message)
            return await self._encode_with_others(message)
        finally:
            self.pending -= 1

    async def _encode_with_others(self, message: pb.EncodeRequest) -> pb.EncodeResult | None:
        item = _Item(message, asyncio.get_running_loop().create_future())
        self._unsent.append(item)
        self.conversation.put(item)
        return await item.answered

    async def _encode_alone(self, message: pb.EncodeRequest) -> pb.EncodeResult | None:
        call = self._stub.EncodeBatches()
        try:
            await call.write(pb.EncodeBatchesRequest(batch=1, items=[message]))
            response = await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return None
        finally:
            call.cancel()
        return response.results[0] if isinstance(response, pb.EncodeBatchesResponse) else None

    async def decode(self, message: pb.DecodeRequest) -> pb.DecodeResponse | Refusal | None:
        """The text of token ids, or None when this replica was lost before it answered."""
        try:
            return await self._stub.Decode(message)
        except grpc.aio.AioRpcError as error:
            return _decode_refusal(error, message.model)

    async def close(self) -> None:
        """Give the channel back."""
        await self._channel.close()

    def open(
        self,
    ) -> "grpc.aio.StreamStreamCall[pb.EncodeBatchesRequest, pb.EncodeBatchesResponse]":
        """Start the stream."""
        return self._stub.EncodeBatches()

    def compose(self, batch: int, items: list[_Item]) -> pb.EncodeBatchesRequest:
        """The message of a batch."""
        self._sent[batch] = items
        self._unsent = self._unsent[len(items) :]
        return pb.EncodeBatchesRequest(batch=batch, items=[item.message for item in items])

    def receive(self, response: pb.EncodeBatchesResponse) -> bool:
        """Hand the results to those who wait; every response answers a whole batch."""
        for item, result in zip(self._sent.pop(response.batch), response.results, strict=True):
            if not item.answered.done():  # its caller may have gone
                item.answered.set_result(result)
        return True

    def lost(self) -> None:
        """Tell those who wait that no answer will come."""
        waiting = [item for items in self._sent.values() for item in items] + self._unsent
        self._sent, self._unsent = {}, []
        for item in waiting:
            if not item.answered.done():
                item.answered.set_result(None)


class Encoders:
    """All tokenizer replicas. A prompt goes to the least busy; a lost one goes to the next."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.replicas = [Replica(address) for address in addresses]

    async def encode(self, message: pb.EncodeRequest) -> Encoded | Refusal:
        """Encode one prompt."""
        replica = self._choose(None)
        result = await replica.encode(message) or await self._again(message, replica)
        if result is None:
            return Unavailable("No tokenizer is reachable.")
        return _read(result, message.model)

    async def decode(self, model: str, token_ids: Sequence[int]) -> str | Refusal:
        """The text of token ids, special tokens included."""
        message = pb.DecodeRequest(model=model, token_ids=token_ids, keep_special_tokens=True)
        decoded = await self._decode(message)
        return decoded.text if isinstance(decoded, pb.DecodeResponse) else decoded

    async def token_texts(self, model: str, token_ids: Sequence[int]) -> list[str] | Refusal:
        """What the vocabulary calls each of these tokens."""
        message = pb.DecodeRequest(model=model, token_ids=token_ids, list_tokens=True)
        decoded = await self._decode(message)
        return list(decoded.tokens) if isinstance(decoded, pb.DecodeResponse) else decoded

    async def _decode(self, message: pb.DecodeRequest) -> pb.DecodeResponse | Refusal:
        replica = None
        for _ in range(ATTEMPTS):
            replica = self._choose(replica)
            answer = await replica.decode(message)
            if answer is not None:
                return answer
        return Unavailable("No tokenizer is reachable.")

    def _choose(self, failed: Replica | None) -> Replica:
        """The least busy replica, and not the one that failed just now if there is another."""
        return min(
            self.replicas,
            key=lambda replica: (replica is failed, replica.conversation.is_down, replica.pending),
        )

    async def _again(self, message: pb.EncodeRequest, replica: Replica) -> pb.EncodeResult | None:
        async def once() -> pb.EncodeResult | None:
            nonlocal replica
            replica = self._choose(replica)
            return await replica.encode(message)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.05, max=0.5),
            retry=retry_if_result(lambda result: result is None),
        )
        try:
            return await retrying(once)
        except RetryError:
            return None


def _decode_refusal(error: grpc.aio.AioRpcError, model: str) -> Refusal | None:
    match error.code():
        case grpc.StatusCode.NOT_FOUND:
            return UnknownModel(model, ())
        case grpc.StatusCode.INVALID_ARGUMENT:
            return Invalid(error.details() or "The token ids cannot be decoded", "prompt")
        case _:
            return None


def _read(result: pb.EncodeResult, model: str) -> Encoded | Refusal:
    if result.HasField("refused"):
        return _refusal(result.refused, model)
    encoded = result.encoded
    timings = encoded.timings
    return Encoded(
        encoded.token_ids,
        encoded.block_hashes,
        encoded.block_size,
        {
            "tokenizer_queue": timings.queue_us,
            "render": timings.render_us,
            "tokenize": timings.tokenize_us,
        },
    )


def _refusal(refused: pb.Refused, model: str) -> Refusal:
    reason = refused.reason
    match reason:
        case pb.REFUSAL_REASON_UNKNOWN_MODEL:
            return UnknownModel(model, ())
        case pb.REFUSAL_REASON_TEMPLATE:
            return Invalid(refused.message, _TEMPLATES.get(refused.parameter, refused.parameter))
        case pb.REFUSAL_REASON_VOCABULARY | pb.REFUSAL_REASON_EMPTY:
            return Invalid(refused.message, "prompt")
        case _:
            return Unavailable(f"The tokenizer answered in a way unknown here: {reason}.")


# What the tokenizer calls otherwise than OpenAI and vLLM do.
_TEMPLATES = {"": "messages", "template_kwargs_json": "chat_template_kwargs"}
