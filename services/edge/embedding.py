"""The way of inputs to embed: encoded, placed, embedded; placed again when a worker fails.

Each input is placed on its own, so that a request of many spreads over the workers.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import grpc

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.worker.v1 import worker_pb2 as worker
from services.edge import wire
from services.edge.apis.openai_embeddings import TOTAL_TOKENS_LIMIT, Input
from services.edge.apis.refusals import Invalid, Refusal, Unavailable, too_long
from services.edge.encoding import Encoded
from services.edge.fitting import misfit
from services.edge.inquiry import Caller
from services.edge.placing import Placed
from services.edge.relay import Hops
from services.edge.several import each
from services.edge.workers import Served

AT_ONCE = 32  # inputs of one request that are with a tokenizer or a worker at the same time


@dataclass(frozen=True, slots=True)
class Embedded:
    """One input's vector, as the model gives it, and the tokens that it took."""

    vector: Sequence[float]
    tokens: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """The inputs of one request, on their way."""

    hops: Hops
    caller: Caller
    model: str
    priority: int

    def misfit(self) -> Refusal | None:
        """Why the model does not do for this."""
        wrong = misfit(self.model, self.hops.fleet.pools, generates=False)
        if wrong is None and self._served.adapter:
            return Invalid(f"`{self.model}` is an adapter, and adapters do not embed", "model")
        return wrong

    async def embed(self, inputs: Sequence[Input]) -> list[Embedded] | Refusal:
        """Embed all. Everything is checked before anything is embedded."""
        encoded = await each(self._encode, inputs, AT_ONCE)
        if not isinstance(encoded, list):
            return encoded
        total = sum(each.prompt_tokens for each in encoded)
        if total > TOTAL_TOKENS_LIMIT:
            message = (
                f"The inputs have {total} tokens together; at most {TOTAL_TOKENS_LIMIT} may be"
            )
            return Invalid(message, inputs[-1].parameter, "too_many_tokens")
        return await each(self._run, list(zip(inputs, encoded, strict=True)), AT_ONCE)

    @property
    def _served(self) -> Served:
        return self.hops.fleet.served(self.model)

    async def _encode(self, position: int, wanted: Input) -> Encoded | Refusal:
        request = wire.encode_prompt(wanted.prompt, self._served, self.caller.traceparent)
        encoded = await self.hops.encoders.encode(request)
        if isinstance(encoded, Invalid):
            return replace(encoded, param=wanted.parameter)
        if isinstance(encoded, Encoded):
            return self._too_long(wanted, encoded.prompt_tokens) or encoded
        return encoded

    def _too_long(self, wanted: Input, tokens: int) -> Invalid | None:
        pool = self.hops.fleet.pools.get(self.model)
        if pool is None or tokens <= pool.max_model_tokens:
            return None
        message = f"`{wanted.where}` has {tokens} tokens. Please shorten it."
        return too_long(pool.max_model_tokens, message, wanted.parameter)

    async def _run(self, position: int, one: tuple[Input, Encoded]) -> Embedded | Refusal:
        wanted, encoded = one
        excluded: list[str] = []
        while len(excluded) <= self.hops.resume_limit:
            request_id = f"{self.caller.request_id}-{position}.{len(excluded)}"
            placed = await self.hops.placer.place(self._place_item(request_id, encoded, excluded))
            if not isinstance(placed, Placed):
                return placed
            outcome = await self._on(placed, request_id, wanted, encoded)
            if outcome is not None:
                return outcome
            excluded.append(placed.worker_id)
        return Unavailable(f"The input failed on {len(excluded)} workers.")

    async def _on(
        self, placed: Placed, request_id: str, wanted: Input, encoded: Encoded
    ) -> Embedded | Refusal | None:
        """What this worker makes of it; None when another may do better."""
        request = worker.EmbedRequest(
            request_id=request_id,
            model=self._served.model,
            tokens=encoded.token_ids,
            traceparent=self.caller.traceparent,
        )
        with (
            self._reported(placed, request_id) as report,
            self.hops.channels.to(placed.address) as stub,
        ):
            try:
                answer = await stub.Embed(request)
            except grpc.aio.AioRpcError as error:
                report.outcome = scheduler.FINISH_OUTCOME_FAILED
                return _refusal(error, wanted)
            report.outcome = scheduler.FINISH_OUTCOME_COMPLETED
            return Embedded(answer.values, answer.prompt_tokens)

    @contextmanager
    def _reported(self, placed: Placed, request_id: str) -> Iterator[scheduler.FinishRequest]:
        """Give the placement back at the end; who changes nothing was cancelled."""
        cancelled = scheduler.FINISH_OUTCOME_CANCELLED
        report = scheduler.FinishRequest(request_id=request_id, outcome=cancelled)
        sent_s = time.monotonic()
        try:
            yield report
        finally:
            if report.outcome == scheduler.FINISH_OUTCOME_COMPLETED:
                report.actual_ttft_ms = (time.monotonic() - sent_s) * 1e3
            self.hops.placer.finish(placed, report)

    def _place_item(
        self, request_id: str, encoded: Encoded, excluded: Sequence[str]
    ) -> scheduler.PlaceItem:
        # No hashes: a worker that embeds has no prefix cache.
        request = scheduler.PlaceRequest(
            request_id=request_id,
            model=self._served.model,
            adapter=self._served.adapter,
            prompt_tokens=encoded.prompt_tokens,
            tenant=self.caller.tenant,
            priority=self.priority,
            excluded_workers=excluded,
            traceparent=self.caller.traceparent,
        )
        return scheduler.PlaceItem(request=request)


def _refusal(error: grpc.aio.AioRpcError, wanted: Input) -> Refusal | None:
    """A worker that finds the input at fault is believed; other failures may be its own."""
    if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
        return Invalid(error.details() or "The input cannot be embedded", wanted.parameter)
    return None
