"""Messages to values and back: the one place that knows both."""

import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import repeat

import grpc

from headway.worker.v1 import worker_pb2 as pb
from services.blocks import TOKEN_BYTES
from services.worker.choice import Finish, FinishReason, Piece
from services.worker.engine import (
    Constraint,
    ConstraintKind,
    Sampling,
    TokenLogprob,
    TokenLogprobs,
)
from services.worker.identity import Identity
from services.worker.parsing import Apart, CallDelta, Parsing, Tool, ToolChoice
from services.worker.relay import Started
from services.worker.requests import Failure, FailureKind, Request
from services.worker.stages import FirstTokenTimes, stages
from services.worker.text import Stop, TokenBytes

STATUS = {
    FailureKind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    FailureKind.NOT_SERVED: grpc.StatusCode.NOT_FOUND,
    FailureKind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    FailureKind.ENGINE: grpc.StatusCode.UNAVAILABLE,
    FailureKind.DUPLICATE: grpc.StatusCode.ALREADY_EXISTS,
    FailureKind.PARSER: grpc.StatusCode.INTERNAL,
}
_FAILURES = {
    FailureKind.INVALID: pb.FAILURE_REASON_INVALID,
    FailureKind.NOT_SERVED: pb.FAILURE_REASON_NOT_SERVED,
    FailureKind.UNAVAILABLE: pb.FAILURE_REASON_UNAVAILABLE,
    FailureKind.ENGINE: pb.FAILURE_REASON_ENGINE,
    FailureKind.DUPLICATE: pb.FAILURE_REASON_DUPLICATE,
    FailureKind.PARSER: pb.FAILURE_REASON_PARSER,
}
_FINISHES = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.ABORTED: pb.FINISH_REASON_ABORTED,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
}
_CHOICES = {
    pb.TOOL_CHOICE_UNSPECIFIED: ToolChoice.NONE,
    pb.TOOL_CHOICE_NONE: ToolChoice.NONE,
    pb.TOOL_CHOICE_AUTO: ToolChoice.AUTO,
    pb.TOOL_CHOICE_REQUIRED: ToolChoice.REQUIRED,
    pb.TOOL_CHOICE_NAMED: ToolChoice.NAMED,
}


class Malformed(Exception):
    """A message that cannot be read; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def read_request(message: pb.GenerateRequest) -> Request:
    """Read a request. Raises Malformed."""
    asked = message.sampling
    stop = Stop(tuple(asked.stop), asked.include_stop, asked.min_tokens)
    return Request(
        request_id=message.request_id,
        model=message.model,
        adapter=message.adapter,
        prompt=list(message.prompt_token_ids) or read_ids(message.prompt, "prompt"),
        generated=read_ids(message.generated, "generated"),
        sampling=_sampling(asked),
        max_tokens=asked.max_tokens if asked.HasField("max_tokens") else None,
        min_tokens=asked.min_tokens,
        choices=asked.choices or 1,
        stop=stop,
        keep_special_tokens=asked.keep_special_tokens,
        cache_salt=message.cache_salt,
        priority=message.priority,
        traceparent=message.traceparent,
        parsing=_parsing(message.parsing) if message.HasField("parsing") else None,
    )


def read_input(message: pb.EmbedRequest) -> list[int]:
    """Read the tokens of an input to embed. Raises Malformed."""
    return list(message.token_ids) or read_ids(message.tokens, "input")


def read_ids(ids: bytes, parameter: str) -> list[int]:
    """Token ids from their wire form. Raises Malformed."""
    if len(ids) % TOKEN_BYTES:
        text = f"{parameter} holds {len(ids)} bytes, which is no multiple of {TOKEN_BYTES}"
        raise Malformed(Failure(FailureKind.INVALID, text, parameter))
    return array("I", ids).tolist()


def _parsing(asked: pb.Parsing) -> Parsing:
    if asked.tool_choice not in _CHOICES:
        raise Malformed(Failure(FailureKind.INVALID, "unknown tool_choice", "tool_choice"))
    return Parsing(
        tools=tuple(Tool(tool.name, tool.parameters_json, tool.strict) for tool in asked.tools),
        choice=_CHOICES[asked.tool_choice],
        tool_name=asked.tool_name,
        single_call=asked.single_call,
        hide_reasoning=asked.hide_reasoning,
        template_kwargs_json=asked.template_kwargs_json,
    )


def _sampling(asked: pb.Sampling) -> Sampling:
    given = {each.name: value for each, value in asked.ListFields() if each.name in _OPTIONAL}
    return Sampling(
        **given,
        stop_token_ids=tuple(asked.stop_token_ids),
        ignore_eos=asked.ignore_eos,
        logit_bias=dict(asked.logit_bias),
        constraint=_constraint(asked) if asked.HasField("constraint") else None,
    )


_OPTIONAL = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logprobs",
    "prompt_logprobs",
)


def _constraint(asked: pb.Sampling) -> Constraint:
    form = asked.constraint.WhichOneof("form")
    if form is None:
        raise Malformed(Failure(FailureKind.INVALID, "the constraint has no form", "constraint"))
    kind = ConstraintKind[form.upper()]
    if kind is ConstraintKind.TEXTS:
        return Constraint(kind, tuple(asked.constraint.texts.texts))
    if kind is ConstraintKind.ANY_JSON_OBJECT:
        return Constraint(kind, ())
    return Constraint(kind, (getattr(asked.constraint, form),))


class DeltaWriter:
    """Writes deltas into messages that others made, without a copy."""

    def __init__(self, token_bytes: TokenBytes, identity: Identity) -> None:
        self._token_bytes = token_bytes
        self._identity = identity

    def write(self, piece: Piece, to: pb.Delta) -> None:
        """Add to what `to` holds of the choice."""
        to.text += piece.text
        to.token_ids.extend(piece.token_ids)
        if piece.logprobs:
            to.logprobs.extend(map(self._logprobs, piece.logprobs, piece.offsets))
        if piece.apart is not None:
            _write_apart(piece.apart, to)
        if piece.finish is not None:
            _write_finish(piece.finish, to.finish)

    def write_started(self, started: Started, to: pb.Started) -> None:
        """Write what the first delta tells; its time of departure is not known yet."""
        to.cached_tokens = started.cached_tokens
        to.epoch = self._identity.epoch
        to.prompt_logprobs.extend(map(self._logprobs, started.prompt_logprobs, repeat(0)))

    def _logprobs(self, each: TokenLogprobs, text_offset: int) -> pb.TokenLogprobs:
        return pb.TokenLogprobs(
            token=self._logprob(each.token),
            top=[self._logprob(other) for other in each.top],
            text_offset=text_offset,
            rank=each.rank,
        )

    def _logprob(self, each: TokenLogprob) -> pb.TokenLogprob:
        return pb.TokenLogprob(
            token_id=each.token_id,
            logprob=each.logprob,
            text=self._token_bytes.of(each.token_id),
        )


def write_plain(request: int, choice: int, piece: Piece, to: pb.Plain) -> None:
    """Write a piece that brings tokens alone as a row of a frame's columns."""
    to.requests.append(request)
    to.choices.append(choice)
    to.texts.append(piece.text)
    to.token_ids.append(array("I", piece.token_ids).tobytes())


def add_to_plain(place: int, piece: Piece, to: pb.Plain) -> None:
    """Add such a piece to the row of its choice."""
    to.texts[place] += piece.text
    to.token_ids[place] += array("I", piece.token_ids).tobytes()


def single_deltas(frame: pb.PipeResponse) -> Iterator[pb.Delta]:
    """What a frame holds, a message for each, in the order in which an edge reads it."""
    plain = frame.plain
    columns = plain.requests, plain.choices, plain.texts, plain.token_ids
    for request, choice, text, token_ids in zip(*columns, strict=True):
        yield pb.Delta(request=request, choice=choice, text=text, token_ids=array("I", token_ids))
    yield from frame.deltas


def write_departure(times: FirstTokenTimes, to: pb.Started) -> None:
    """Write where the time went, as the message leaves."""
    parts = stages(times, time.monotonic())
    to.timings.worker_ingress_us = parts.worker_ingress_us
    to.timings.engine_queue_us = parts.engine_queue_us
    to.timings.prefill_us = parts.prefill_us
    to.timings.worker_egress_us = parts.worker_egress_us


def _write_apart(apart: Apart, to: pb.Delta) -> None:
    to.reasoning += apart.reasoning
    for call in apart.calls:
        _write_call(call, to)


def _write_call(call: CallDelta, to: pb.Delta) -> None:
    """Add to the call that waits in the delta, if it is the one that goes on."""
    waiting = to.tool_calls[-1] if to.tool_calls else None
    if waiting is not None and waiting.index == call.index and not call.name:
        waiting.arguments += call.arguments
    else:
        to.tool_calls.add(index=call.index, id=call.id, name=call.name, arguments=call.arguments)


def _write_finish(finish: Finish, to: pb.Finish) -> None:
    to.reason = _FINISHES[finish.reason]
    to.completion_tokens = finish.completion_tokens
    if finish.stop_text:
        to.stop_text = finish.stop_text
    if finish.stop_token_id is not None:
        to.stop_token_id = finish.stop_token_id


def write_failure(failure: Failure, to: pb.Failed) -> None:
    """Write why a request failed."""
    to.reason = _FAILURES[failure.kind]
    to.message = failure.message
    to.parameter = failure.parameter


def failure_parameter(failure: Failure) -> Sequence[tuple[str, str]]:
    """The trailing metadata of a failed call: which parameter is at fault."""
    return (("headway-parameter", failure.parameter),) if failure.parameter else ()
