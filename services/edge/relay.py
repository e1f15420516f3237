"""One prompt's way through the fleet: encoded, placed, piped; placed again when a worker fails.

A Relay is driven by its exchange's task alone. Deltas reach the exchange through an Inbox.

The hot path is `Relay.carry`, with the loop of `Pipe.receive` that calls it, the lane that it
calls (`Events.lane`, or `Collector._carry`) and `Client.write`: it runs for every token,
in the task that reads the worker's pipe. It may touch a row of the frame's columns, the ids that
were generated, the event's bytes and the socket's buffer, and nothing else: no task, no await,
no clock, no validation, no log, no metric.
"""

import time
from array import array
from dataclasses import dataclass, field, replace
from typing import Any

from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.worker.v1 import worker_pb2 as worker
from services.edge import resume
from services.edge.apis.openai import Prompt
from services.edge.apis.refusals import Broken, Invalid, Refusal, Unavailable, too_long
from services.edge.channels import Channels
from services.edge.encoding import Encoded, Encoders
from services.edge.fleet import Fleet
from services.edge.inbox import Inbox
from services.edge.ledger import Ledger
from services.edge.pipe import Pipe, Pipes
from services.edge.placing import Placed, Placer
from services.edge.wire import parameter_of, prompt_parameter, without_prompt


@dataclass(frozen=True, slots=True)
class Hops:
    """The way to the other services."""

    encoders: Encoders
    placer: Placer
    pipes: Pipes
    channels: Channels
    fleet: Fleet
    resume_limit: int


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a relay."""

    request_id: str
    encode: tokenizer.EncodeRequest
    sampling: worker.Sampling  # its max_tokens is absent when the context is the limit
    tenant: str
    priority: int
    cache_salt: str
    traceparent: str
    constrained_by: str = ""  # the client's parameter that asks for a form
    parsing: worker.Parsing | None = None  # None: plain text


@dataclass(slots=True)
class Relay:
    """The state of one prompt. `first_choice` is the index of its first choice."""

    hops: Hops
    order: Order
    inbox: "Inbox[Relay]"
    ledger: Ledger
    first_choice: int
    encoded: Encoded | None = None
    placed: Placed | None = None
    started: bool = False
    cached_tokens: int = 0
    completion_tokens: int = 0
    resumes: int = 0
    open_choices: int = 0
    _generated: "array[int]" = field(default_factory=lambda: array("I"))
    _excluded: list[str] = field(default_factory=list)
    _pipe: Pipe | None = None
    _number: int = 0
    _sent_s: float = 0.0
    _ttft_s: float | None = None  # of this attempt
    first_s: float | None = None
    echo: Prompt | None = None  # the prompt, where the answer begins with it
    echo_text: str = ""
    prompt_logprobs: list[worker.TokenLogprobs] = field(default_factory=list)

    async def prepare(self) -> Refusal | None:
        """Encode the prompt, and see whether it fits. Nothing runs yet."""
        asked_s = time.monotonic()
        encoded = await self.hops.encoders.encode(self.order.encode)
        if not isinstance(encoded, Encoded):
            return encoded
        round_trip_s = time.monotonic() - asked_s
        self.ledger.charge_hop("tokenizer_network", round_trip_s, encoded.timings_us)
        self.encoded = encoded
        self.order = replace(self.order, encode=without_prompt(self.order.encode))
        self.open_choices = self.order.sampling.choices
        refusal = self._check_length(encoded.prompt_tokens)
        if refusal is None and self.echo is not None:
            refusal = await self._read_echo(self.echo)
        return refusal

    async def _read_echo(self, prompt: Prompt) -> Refusal | None:
        """Know the prompt's text, which a prompt of token ids does not tell."""
        if isinstance(prompt, str):
            self.echo_text = prompt
            return None
        text = await self.hops.encoders.decode(self.order.encode.model, prompt)
        if not isinstance(text, str):
            return text
        self.echo_text = text
        return None

    def carry(self, choice: int, text: str, token_ids: bytes) -> bool:
        """Hand on what brings nothing but tokens, past the inbox; false when it must wait."""
        lane = self.inbox.open_lane
        if lane is None or not lane(self.first_choice + choice, text):
            return False
        self._generated.frombytes(token_ids)
        return True

    def put(self, delta: worker.Delta | None, received_s: float) -> None:
        """Take a delta from the pipe. One too many frees the worker, however long nobody reads."""
        if not self.inbox.put((self, delta, received_s)):
            self.close()

    def take(self, delta: worker.Delta, received_s: float) -> None:
        """Keep the books of a delta: the ids for a resume, the account, the end."""
        self._generated.extend(delta.token_ids)
        if delta.HasField("started"):
            self._ttft_s = received_s - self._sent_s
            self._account(delta.started, received_s)
        if delta.HasField("finish"):
            self.open_choices -= 1
            self.completion_tokens += delta.finish.completion_tokens
            if not self.open_choices:
                self._end(scheduler.FINISH_OUTCOME_COMPLETED)

    def lose(self, failed: worker.Failed | None) -> Refusal | None:
        """Leave the worker, which failed (None: its pipe broke); why none can go on, if so."""
        if failed is not None and not _worth_another(failed):
            self._end(scheduler.FINISH_OUTCOME_FAILED)
            return _refusal(failed, self.order)
        placed = self.placed
        assert placed is not None, "only what was placed can fail"
        self._end(scheduler.FINISH_OUTCOME_FAILED)
        obstacle = self._obstacle() if self.started else None
        if obstacle:
            return Broken(f"The worker was lost, and the stream cannot go on: {obstacle}.")
        if self.resumes >= self.hops.resume_limit:
            return Unavailable(f"The request failed on {self.resumes + 1} workers.")
        self.resumes += 1
        self._excluded.append(placed.worker_id)
        if not self.started:
            self.ledger.lose(time.monotonic() - self._sent_s)
        return None

    async def restart(self, failed: worker.Failed | None) -> Refusal | None:
        """Go on elsewhere."""
        refusal = await self.start()
        if refusal is not None and failed is not None and failed.reason == _NOT_SERVED:
            return Unavailable(failed.message)  # says more than that nobody is left
        return refusal

    def _obstacle(self) -> str | None:
        return resume.obstacle(self.order.sampling, self.order.parsing)

    def close(self) -> None:
        """Give back what is still held: the client left, or the exchange failed."""
        self._end(scheduler.FINISH_OUTCOME_CANCELLED)

    def explain(self) -> dict[str, Any]:
        """The relay's part of `X-Headway-Explain`."""
        return {
            "worker": "" if self.placed is None else self.placed.worker_id,
            "prompt_tokens": 0 if self.encoded is None else self.encoded.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "placement": {} if self.placed is None else self.placed.why,
            "resumes": self.resumes,
        }

    @property
    def generated_tokens(self) -> int:
        """Tokens that arrived, over all choices."""
        return len(self._generated)

    def _check_length(self, prompt_tokens: int) -> Refusal | None:
        pool = self.hops.fleet.pools.get(self.order.encode.model)
        if pool is None:
            return None  # the scheduler knows better
        room = pool.max_model_tokens - prompt_tokens
        wanted = self._max_tokens(room)
        if room > 0 and wanted <= room:
            return None
        parameter = prompt_parameter(self.order.encode)
        if self.order.sampling.HasField("max_tokens"):
            message = (
                f"you requested {prompt_tokens + wanted} tokens ({prompt_tokens} in the "
                f"{parameter}, {wanted} in the completion). Please reduce either."
            )
        else:
            message = f"your {parameter} resulted in {prompt_tokens} tokens. Please shorten it."
        return too_long(pool.max_model_tokens, message, parameter)

    def _max_tokens(self, room: int) -> int:
        """The most tokens of a choice, where the context leaves `room`."""
        sampling = self.order.sampling
        return sampling.max_tokens if sampling.HasField("max_tokens") else room

    async def start(self) -> Refusal | None:
        """Start on a worker; waits until one has room. A refusal means that nothing runs."""
        asked_s = time.monotonic()
        placed = await self.hops.placer.place(self._place_item())
        if not isinstance(placed, Placed):
            return placed
        self.placed = placed
        self._sent_s = time.monotonic()
        self._ttft_s = None
        if not self.started:
            round_trip_s = self._sent_s - asked_s
            self.ledger.charge_hop("scheduler_network", round_trip_s, placed.timings_us)
        self._pipe = self.hops.pipes.to(placed.address)
        self._number = self._pipe.start(self._generate_request(), self)
        return None

    def _attempt_id(self) -> str:
        suffix = f".{self.resumes}" if self.resumes else ""
        return self.order.request_id + suffix

    def _place_item(self) -> scheduler.PlaceItem:
        encoded, order = self.encoded, self.order
        assert encoded is not None, "encoding comes first"
        pool = self.hops.fleet.pools.get(order.encode.model)
        room = pool.max_model_tokens - encoded.prompt_tokens if pool else 1
        limit = self._max_tokens(room) - len(self._generated)
        request = scheduler.PlaceRequest(
            request_id=self._attempt_id(),
            model=order.encode.model,
            adapter=order.encode.adapter,
            prompt_tokens=encoded.prompt_tokens + len(self._generated),
            max_tokens=limit * order.sampling.choices,
            block_size=encoded.block_size,
            tenant=order.tenant,
            priority=order.priority,
            excluded_workers=self._excluded,
            traceparent=order.traceparent,
        )
        return scheduler.PlaceItem(request=request, block_hashes=encoded.block_hashes)

    def _generate_request(self) -> worker.GenerateRequest:
        encoded, order = self.encoded, self.order
        assert encoded is not None, "encoding comes first"
        return worker.GenerateRequest(
            request_id=self._attempt_id(),
            model=order.encode.model,
            adapter=order.encode.adapter,
            prompt=encoded.token_ids,
            generated=self._generated.tobytes(),
            sampling=order.sampling,
            cache_salt=order.cache_salt,
            priority=order.priority,
            traceparent=order.traceparent,
            parsing=order.parsing,
        )

    def _account(self, started: worker.Started, received_s: float) -> None:
        if self.started:
            return  # a resumed stream keeps its first token's account
        self.started = True
        self.first_s = received_s
        self.cached_tokens = started.cached_tokens
        self.prompt_logprobs = list(started.prompt_logprobs)
        timings = started.timings
        reported_us = {
            "worker_ingress": timings.worker_ingress_us,
            "engine_queue": timings.engine_queue_us,
            "prefill": timings.prefill_us,
            "worker_egress": timings.worker_egress_us,
        }
        self.ledger.charge_hop("worker_network", received_s - self._sent_s, reported_us)

    def _end(self, outcome: scheduler.FinishOutcome.ValueType) -> None:
        """Give the placement back, once, and abort what still runs."""
        if self._pipe is None or self.placed is None:
            return
        pipe, self._pipe = self._pipe, None
        if outcome == scheduler.FINISH_OUTCOME_CANCELLED:
            pipe.abort(self._number)
        else:
            pipe.ended(self._number)
        report = scheduler.FinishRequest(
            request_id=self._attempt_id(),
            completion_tokens=len(self._generated),
            outcome=outcome,
        )
        if self._ttft_s is not None:
            report.actual_ttft_ms = self._ttft_s * 1e3
        self.hops.placer.finish(self.placed, report)


_NOT_SERVED = worker.FAILURE_REASON_NOT_SERVED

# Another worker may do better. The others refused the request for what it is.
_ANOTHER = frozenset(
    (
        worker.FAILURE_REASON_UNAVAILABLE,
        worker.FAILURE_REASON_ENGINE,
        worker.FAILURE_REASON_NOT_SERVED,
    )
)


def _worth_another(failed: worker.Failed) -> bool:
    return failed.reason in _ANOTHER


def _refusal(failed: worker.Failed, order: Order) -> Refusal:
    if failed.reason == worker.FAILURE_REASON_INVALID:
        return Invalid(
            failed.message, parameter_of(order.encode, order.constrained_by, failed.parameter)
        )
    return Broken(failed.message)
