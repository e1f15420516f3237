"""OpenAI's answers as bytes: server-sent events and JSON bodies. Pure; the hot path.

The constant part of every event is built once a request; a token costs one JSON escape and
one concatenation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from services.edge.apis import logprobs
from services.edge.apis.logprobs import Entry
from services.edge.apis.refusals import Refusal, answer
from services.edge.apis.writing import (
    CallDelta,
    Carry,
    Choice,
    Closing,
    Extras,
    Head,
    New,
    Usage,
    Write,
)
from services.edge.workers import Pool

DONE = b"data: [DONE]\n\n"

_json = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between chat and plain completions."""

    operation: str  # OpenTelemetry's gen_ai.operation.name
    id_prefix: str
    body_object: str
    event_object: str
    opening: bytes  # the choice, up to the text
    shutting: bytes  # what the text is in, after it
    ending: bytes  # the last choice, up to the finish reason
    logprobs: Callable[[Sequence[Entry], int], dict[str, Any]]

    def head(self, head: Head, kind: str) -> dict[str, Any]:
        """The first fields of an object."""
        fields: dict[str, Any] = {
            "id": self.id_prefix + head.request_id,
            "object": kind,
            "created": head.created,
            "model": head.model,
        }
        return (
            fields if head.service_tier is None else {**fields, "service_tier": head.service_tier}
        )

    def writer(self, head: Head, extras: Extras) -> "Events":
        """What writes a stream."""
        return Events(self, head, extras)

    def body(self, head: Head, choices: Sequence[Choice], closing: Closing) -> bytes:
        """The JSON body of an answer that is not streamed."""
        told: dict[str, Any] = {
            **self.head(head, self.body_object),
            "choices": [_choice(self, *each, head.alternatives) for each in enumerate(choices)],
            "usage": usage_json(closing.usage),
        }
        # vLLM has a chat's at the top: there is one prompt.
        if self is CHAT and choices[0].prompt_logprobs is not None:
            told["prompt_logprobs"] = choices[0].prompt_logprobs
        if closing.explain is not None:
            told["headway"] = closing.explain
        return _json(told)


CHAT = Form(
    "chat",
    "chatcmpl-",
    "chat.completion",
    "chat.completion.chunk",
    b'"delta":{"content":',
    b"}",
    b'"delta":{},"logprobs":null,"finish_reason":',
    lambda entries, _: logprobs.chat(entries),
)
COMPLETION = Form(
    "text_completion",
    "cmpl-",
    "text_completion",
    "text_completion",
    b'"text":',
    b"",
    b'"text":"","logprobs":null,"finish_reason":',
    logprobs.completion,
)


class Events:
    """Writes the events of one stream."""

    def __init__(self, form: Form, head: Head, extras: Extras) -> None:
        self._form = form
        self._alternatives = head.alternatives
        self._with_usage = extras.with_usage
        self._usage_so_far = extras.usage_so_far
        self._head = b"data: " + _json(form.head(head, form.event_object))[:-1] + b',"choices":['
        # OpenAI: with include_usage every other chunk has a usage of null.
        self._no_usage = b',"usage":null' if extras.with_usage else b""
        self._close = self._closing(None)
        self._openings: dict[int, bytes] = {}

    def begin(self, usage: Usage) -> bytes:
        """Nothing: each choice begins by itself."""
        return b""

    def new(self, new: New) -> bytes:
        """The events of what is new in a choice, but for its end; the first opens it."""
        opening = b"" if new.choice in self._openings else self._open(new.choice)
        if new.reasoning:
            opening += self._delta(new.choice, _reasoning(new.reasoning))
        if new.calls:
            return b"".join(
                (opening, self._text(new), *map(partial(self._call, new.choice), new.calls))
            )
        return opening + self._text(new)

    def _text(self, new: New) -> bytes:
        if not new.text and not new.entries:
            return b""
        text = self._openings[new.choice] + _json(new.text)
        if new.entries is None and self._usage_so_far is None:
            return text + self._close
        return text + self._closing(new.entries)

    def _call(self, choice: int, call: CallDelta) -> bytes:
        """The events of a call: as OpenAI has it, the first brings its name and no arguments."""
        out = b""
        if call.name:
            head = {"index": call.index, "id": call.id, "type": "function"}
            function = {"name": call.name, "arguments": ""}
            out = self._delta(choice, {"tool_calls": [{**head, "function": function}]})
        if call.arguments:
            more = {"index": call.index, "function": {"arguments": call.arguments}}
            out += self._delta(choice, {"tool_calls": [more]})
        return out

    def _delta(self, choice: int, delta: dict[str, Any]) -> bytes:
        """The event of a delta that is not text."""
        begin = self._head + b'{"index":%d,"delta":' % choice + _json(delta)
        return begin + b',"logprobs":null,"finish_reason":null}]' + self._tail() + b"}\n\n"

    def _open(self, choice: int) -> bytes:
        """The event that opens a choice; plain completions have none."""
        self._openings[choice] = self._head + b'{"index":%d,' % choice + self._form.opening
        if self._form is COMPLETION:
            return b""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""}' % choice
        rest = b',"logprobs":null,"finish_reason":null}]'
        return self._head + delta + rest + self._tail() + b"}\n\n"

    def _closing(self, entries: Sequence[Entry] | None) -> bytes:
        told = None if entries is None else self._form.logprobs(entries, self._alternatives)
        ending = b',"logprobs":' + _json(told) + b',"finish_reason":null}]'
        return self._form.shutting + ending + self._tail() + b"}\n\n"

    def _tail(self) -> bytes:
        if self._usage_so_far is None:
            return self._no_usage
        return b',"usage":' + _json(usage_json(self._usage_so_far()))

    def lane(self, write: Write) -> Carry | None:
        """What writes the events of new text in open choices."""
        if self._usage_so_far is not None:
            return None  # the lane counts nothing, so no event of it could tell a usage
        openings, close, as_json = self._openings, self._close, _json

        def carry(choice: int, text: str) -> bool:
            if choice not in openings:
                return False
            return not text or write(openings[choice] + as_json(text) + close)

        return carry

    def ends(self, ends: Sequence[New], closing: Closing | None) -> bytes:
        """The events that end choices, and with `closing` the stream."""
        if closing is None:
            return b"".join(self._finish(end, None) for end in ends)
        if self._with_usage:
            finishes = [self._finish(end, None) for end in ends]
            return b"".join((*finishes, self._usage(closing), DONE))
        *others, last = ends
        finishes = [self._finish(end, None) for end in others]
        return b"".join((*finishes, self._finish(last, closing.explain), DONE))

    def _finish(self, end: New, explain: dict[str, Any] | None) -> bytes:
        """The event that ends a choice; `explain` where it is also the stream's last chunk."""
        told = _json(end.finish_reason) + b',"stop_reason":' + _json(end.stop) + b"}]"
        told += self._tail() + _explained(explain)
        return self._head + b'{"index":%d,' % end.choice + self._form.ending + told + b"}\n\n"

    def _usage(self, closing: Closing) -> bytes:
        """The event with the usage, which has no choice."""
        told = _json(usage_json(closing.usage)) + _explained(closing.explain)
        return self._head + b'],"usage":' + told + b"}\n\n"

    def broken(self, refusal: Refusal) -> bytes:
        """The events that end a stream which cannot go on."""
        return b"data: " + answer(refusal).body + b"\n\n" + DONE


def usage_json(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def models(pools: Mapping[str, Pool], created: int) -> bytes:
    """The list of models, by name."""
    entries = [_model(name, pool, created) for name, pool in sorted(pools.items())]
    return _json({"object": "list", "data": entries})


def model(name: str, pool: Pool, created: int) -> bytes:
    """One model."""
    return _json(_model(name, pool, created))


def _model(name: str, pool: Pool, created: int) -> dict[str, Any]:
    """A model's entry, with vLLM's fields; an adapter names the model that it adapts."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "headway",
        "root": pool.parent or name,  # a name: vLLM shows a path on its disk
        "parent": pool.parent or None,
        "max_model_len": pool.max_model_tokens,
    }


def version(number: str) -> bytes:
    """What runs here."""
    return _json({"version": number})


def accounts(kept: list[dict[str, Any]] | dict[str, Any]) -> bytes:
    """One account or many, as JSON."""
    return _json(kept)


def _explained(explain: dict[str, Any] | None) -> bytes:
    return b"" if explain is None else b',"headway":' + _json(explain)


def _choice(form: Form, index: int, choice: Choice, alternatives: int) -> dict[str, Any]:
    entries = choice.entries
    told = None if entries is None else form.logprobs(entries, alternatives)
    ending: dict[str, Any] = {
        "logprobs": told,
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop,  # vLLM's
    }
    if form is CHAT:
        return {"index": index, "message": _message(choice), **ending}
    if choice.prompt_logprobs is not None:
        ending["prompt_logprobs"] = choice.prompt_logprobs
    return {"index": index, "text": choice.text, **ending}


def _message(choice: Choice) -> dict[str, Any]:
    content = None if choice.calls and not choice.text else choice.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if choice.reasoning:
        message |= _reasoning(choice.reasoning)
    if choice.calls:
        message["tool_calls"] = [_called(call) for call in choice.calls]
    return message


def _reasoning(text: str) -> dict[str, str]:
    """By both its names: vLLM's, and the one that vLLM had before and others have."""
    return {"reasoning": text, "reasoning_content": text}


def _called(call: CallDelta) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
