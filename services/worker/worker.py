"""The requests that run here, from their admission to their last delta."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tokenizers import Tokenizer

from services.worker.adapters import Adapters
from services.worker.choice import Choice
from services.worker.engine import (
    AdapterRefused,
    Engine,
    EngineBroken,
    EngineFull,
    EngineRefused,
    Run,
)
from services.worker.metrics import Metrics
from services.worker.parsed import ParsedChoice
from services.worker.parsers import Parsers
from services.worker.parsing import CannotParse, ParserBroken, ToolChoice
from services.worker.relay import PARSER_BROKE, Put, Relay, Running
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
from services.worker.text import Decoder, TextStream, special_tokens

MOST_PREFILLS_KEPT = 4096  # timings that wait for the next report


class Worker:
    """Runs requests on the engine. Only this object writes the table of running requests."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, parsers: Parsers, metrics: Metrics
    ) -> None:
        self.running: dict[str, Running] = {}
        self.prefills: deque[Prefill] = deque(maxlen=MOST_PREFILLS_KEPT)
        self.limits: Limits | None = None  # until the engine is up
        self.adapters = Adapters(engine, metrics)
        self.is_draining = False
        self.drain_asked = asyncio.Event()
        self._engine = engine
        self._tokenizer = tokenizer
        self._special = special_tokens(tokenizer)
        self._parsers = parsers
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
        """Run an admitted request to its end; its deltas are put as the engine steps."""
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
        self._note(_embedding(request_id, len(tokens), time.monotonic() - began_s))
        return values

    def _accepted(self, request: Request) -> Accepted | Failure:
        if self.limits is None or self.is_draining:
            return _UNAVAILABLE
        if request.request_id in self.running:
            return Failure(FailureKind.DUPLICATE, f"request {request.request_id!r} is running")
        if request.parsing is None:
            return accept(request, self.limits)
        planned = self._parsers.plan(request)
        if isinstance(planned, CannotParse):
            return Failure(FailureKind.INVALID, planned.message, planned.parameter)
        return accept(planned, self.limits)

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
            return _asked_for(_failure(error), running.request)
        except ParserBroken:  # before the engine got the run
            return PARSER_BROKE

    async def _relay(self, running: Running, run: Run, put: Put) -> Failure | None:
        relay = Relay(running, run, self._choice(running.request), put, self._note)
        relay.resume()
        # A request may have failed while its adapter was loaded.
        if not relay.is_finished and running.failure is None:
            relay.handed(time.monotonic())
            await self._engine.generate(run, relay.push)
        if relay.is_finished:
            return None
        return running.failure or _NO_REASON

    def _choice(self, request: Request) -> Choice | ParsedChoice:
        keeps = request.keep_special_tokens
        decoder = Decoder(self._tokenizer, request.prompt, keeps or request.parser_needs_special)
        skipped = frozenset[int]() if keeps else self._special
        choice = Choice(TextStream(decoder, request.stop), request.stop.include, skipped)
        if request.parser is None:
            return choice
        parsing = request.parsing
        is_named = parsing is not None and parsing.choice is ToolChoice.NAMED
        return ParsedChoice(choice, request.parser(), ends_as_stop=is_named)

    def _note(self, prefill: Prefill) -> None:
        self._metrics.prompt_tokens.inc(prefill.computed_tokens + prefill.cached_tokens)
        self._metrics.cached_tokens.inc(prefill.cached_tokens)
        self.prefills.append(prefill)


_UNAVAILABLE = Failure(FailureKind.UNAVAILABLE, "the worker takes no new requests")
_NO_REASON = Failure(FailureKind.ENGINE, "the engine ended the request without a reason")


def _embedding(request_id: str, tokens: int, took_s: float) -> Prefill:
    return Prefill(
        request_id=request_id,
        computed_tokens=tokens,
        cached_tokens=0,
        queue_s=0.0,  # an engine does not tell it apart
        prefill_s=took_s,
        decoding_requests=0,
    )


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


def _asked_for(failure: Failure, request: Request) -> Failure:
    """A constraint that the engine refuses is at fault for what asked for it."""
    constraint = request.sampling.constraint
    if failure.parameter != "constraint" or constraint is None:
        return failure
    return replace(failure, parameter=constraint.parameter)


def _outcome(running: Running, failure: Failure | None) -> str:
    if failure is not None:
        return failure.kind.name.lower()
    return "aborted" if running.is_aborted else "completed"
