"""The requests that run here, from their admission to their last delta."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from services.worker.adapters import Adapters
from services.worker.choice import Choice, Piece
from services.worker.engine import (
    AdapterRefused,
    Engine,
    EngineBroken,
    EngineFull,
    EngineRefused,
    FirstToken,
    Run,
    TokenLogprobs,
)
from services.worker.metrics import Metrics
from services.worker.reports import Prefill
from services.worker.requests import (
    Accepted,
    Failure,
    FailureKind,
    Limits,
    Request,
    accept,
    accept_input,
    runs,
)
from services.worker.stages import FirstTokenTimes
from services.worker.text import Decoder, TextStream

MOST_PREFILLS_KEPT = 4096  # timings that wait for the next report


@dataclass(frozen=True, slots=True)
class Started:
    """What the first delta of a request tells."""

    cached_tokens: int
    times: FirstTokenTimes
    prompt_logprobs: Sequence[TokenLogprobs]


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new in one choice of a request."""

    choice: int
    piece: Piece
    started: Started | None


Put = Callable[[Delta], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Running:
    """A request that was admitted. `times` are known with its first token."""

    accepted: Accepted
    runs: list[Run]
    arrived_s: float
    times: FirstTokenTimes | None = None
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    is_aborted: bool = False
    failure: Failure | None = None

    @property
    def request(self) -> Request:
        """As it was asked for."""
        return self.accepted.request


class Worker:
    """Runs requests on the engine. Only this object writes the table of running requests."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, metrics: Metrics) -> None:
        self.running: dict[str, Running] = {}
        self.prefills: deque[Prefill] = deque(maxlen=MOST_PREFILLS_KEPT)
        self.limits: Limits | None = None  # until the engine is up
        self.adapters = Adapters(engine, metrics)
        self.is_draining = False
        self.drain_asked = asyncio.Event()
        self._engine = engine
        self._tokenizer = tokenizer
        self._metrics = metrics
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self, limits: Limits, adapter_slots: int) -> None:
        """Take requests from now on: the engine is up."""
        self.limits = limits
        self.adapters.slots = adapter_slots

    def drain(self) -> None:
        """Take no new request from now on."""
        self.is_draining = True
        self.drain_asked.set()

    async def idle(self) -> None:
        """Return when nothing runs."""
        await self._idle.wait()

    def admit(self, request: Request, arrived_s: float) -> Running | Failure:
        """Check a request and take it into the table; `serve` has to follow."""
        answer = self._accepted(request)
        if isinstance(answer, Failure):
            self._metrics.requests.labels(answer.kind.name.lower()).inc()
            return answer
        running = Running(answer, runs(answer), arrived_s)
        self.running[request.request_id] = running
        self._idle.clear()
        return running

    async def serve(self, running: Running, put: Put) -> Failure | None:
        """Run an admitted request to its end, delta by delta."""
        outcome = "cancelled"
        try:
            failures = await asyncio.gather(*(self._run(running, run, put) for run in running.runs))
            failure = next(filter(None, failures), None)
            outcome = _outcome(running, failure)
            return failure
        finally:
            self.forget(running)
            self._metrics.requests.labels(outcome).inc()

    def forget(self, running: Running) -> None:
        """Take a request out of the table; once is enough, twice is harmless."""
        if self.running.get(running.request.request_id) is running:
            del self.running[running.request.request_id]
        if not self.running:
            self._idle.set()

    async def abort(self, running: Sequence[Running]) -> None:
        """End requests; their last deltas say so. Returns when the engine is rid of them."""
        for each in running:
            each.is_aborted = True
        await self._free(running)

    async def fail_all(self, failure: Failure) -> None:
        """End everything that runs, with this failure."""
        running = list(self.running.values())
        for each in running:
            each.failure = failure
        await self._free(running)

    async def released(self, running: Sequence[Running]) -> None:
        """Wait until the engine is rid of requests that were cancelled."""
        await self._free(running)

    async def embed(
        self, request_id: str, model: str, tokens: Sequence[int]
    ) -> Sequence[float] | Failure:
        """Embed one input."""
        limits = self.limits
        if limits is None or self.is_draining:
            return _UNAVAILABLE
        failure = accept_input(model, tokens, limits)
        if failure is not None:
            return failure
        began_s = time.monotonic()
        try:
            values = await self._engine.embed(request_id, tokens)
        except (EngineRefused, EngineFull, EngineBroken) as error:
            return _failure(error)
        self._metrics.prompt_tokens.inc(len(tokens))
        self._note_embedding(request_id, len(tokens), time.monotonic() - began_s)
        return values

    def _accepted(self, request: Request) -> Accepted | Failure:
        if self.limits is None or self.is_draining:
            return _UNAVAILABLE
        if request.request_id in self.running:
            return Failure(FailureKind.DUPLICATE, f"request {request.request_id!r} is running")
        return accept(request, self.limits)

    async def _free(self, running: Sequence[Running]) -> None:
        began_s = time.monotonic()
        run_ids = [run.run_id for each in running for run in each.runs]
        self.adapters.give_up(run_ids)
        await self._engine.abort(run_ids)
        for _ in running:
            self._metrics.cancel_seconds.observe(time.monotonic() - began_s)

    async def _run(self, running: Running, run: Run, put: Put) -> Failure | None:
        try:
            async with self.adapters.held(run):
                return await self._relay(running, run, put)
        except (EngineRefused, EngineFull, EngineBroken, AdapterRefused) as error:
            return _failure(error)

    async def _relay(self, running: Running, run: Run, put: Put) -> Failure | None:
        choice = self._choice(running.request)
        last = choice.resume(running.request.generated, running.accepted.max_tokens)
        if last is None and running.is_aborted:
            last = choice.abort()
        if running.failure is not None:  # while its adapter was loaded
            return running.failure
        if last is not None:
            await self._put(running, run, put, last, None)
            return None
        handed_s = time.monotonic()
        async with aclosing(self._engine.generate(run)) as outputs:
            async for output in outputs:
                if running.failure is not None:
                    return running.failure
                started = self._started(running, run, handed_s, output.first)
                piece = choice.advance(output)
                if running.is_aborted and piece.finish is None:
                    piece = choice.abort()
                await self._put(running, run, put, piece, started)
                if piece.finish is not None:
                    return None
        return Failure(FailureKind.ENGINE, "the engine ended the request without a reason")

    def _note_embedding(self, request_id: str, tokens: int, took_s: float) -> None:
        self.prefills.append(
            Prefill(
                request_id=request_id,
                computed_tokens=tokens,
                cached_tokens=0,
                queue_s=0.0,  # an engine does not tell it apart
                prefill_s=took_s,
                decoding_requests=0,
            )
        )

    def _choice(self, request: Request) -> Choice:
        decoder = Decoder(self._tokenizer, request.prompt, request.keep_special_tokens)
        return Choice(TextStream(decoder, request.stop), request.stop.include)

    async def _put(
        self, running: Running, run: Run, put: Put, piece: Piece, started: Started | None
    ) -> None:
        copies = running.request.choices // len(running.runs)  # equal choices run once
        self._metrics.generated_tokens.inc(len(piece.token_ids) * copies)
        for choice in range(run.choice, run.choice + copies):
            if piece.finish is not None:
                running.finish_reasons.append(piece.finish.reason.name.lower())
                running.completion_tokens += piece.finish.completion_tokens
            await put(Delta(choice, piece, started if choice == run.choice else None))

    def _started(
        self, running: Running, run: Run, handed_s: float, first: FirstToken | None
    ) -> Started | None:
        if first is None:
            return None
        times = FirstTokenTimes(running.arrived_s, handed_s, first.scheduled_s, first.first_token_s)
        self._note_prefill(running, run, first, times)
        if running.times is not None:  # another choice began before
            return None
        running.times = times
        running.cached_tokens = first.cached_tokens
        return Started(first.cached_tokens, times, first.prompt_logprobs)

    def _note_prefill(
        self, running: Running, run: Run, first: FirstToken, times: FirstTokenTimes
    ) -> None:
        tokens = len(run.tokens)
        self._metrics.prompt_tokens.inc(tokens)
        self._metrics.cached_tokens.inc(first.cached_tokens)
        self.prefills.append(
            Prefill(
                request_id=running.request.request_id,
                computed_tokens=tokens - first.cached_tokens,
                cached_tokens=first.cached_tokens,
                queue_s=times.scheduled_s - times.handed_s,
                prefill_s=times.first_token_s - times.scheduled_s,
                decoding_requests=first.decoding_requests,
            )
        )


_UNAVAILABLE = Failure(FailureKind.UNAVAILABLE, "the worker takes no new requests")


def _failure(error: EngineRefused | EngineFull | EngineBroken | AdapterRefused) -> Failure:
    match error:
        case AdapterRefused():
            return Failure(FailureKind.NOT_SERVED, str(error), "adapter")
        case EngineRefused(message=message, parameter=parameter):
            return Failure(FailureKind.INVALID, message, parameter)
        case EngineFull():
            return Failure(FailureKind.UNAVAILABLE, "the worker has no room")
        case EngineBroken():
            return Failure(FailureKind.ENGINE, "the engine failed")


def _outcome(running: Running, failure: Failure | None) -> str:
    if failure is not None:
        return failure.kind.name.lower()
    return "aborted" if running.is_aborted else "completed"
