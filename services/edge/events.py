"""OpenAI's answers as bytes: server-sent events and JSON bodies. Pure; the hot path.

The constant part of every event is built once a request; a token costs one JSON escape and
one concatenation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from services.edge.workers import Pool

DONE = b"data: [DONE]\n\n"

_json = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, counted once however often it was resumed."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def as_json(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between chat and plain completions."""

    operation: str  # OpenTelemetry's gen_ai.operation.name
    id_prefix: str
    body_object: str
    event_object: str
    opening: bytes  # the choice, up to the text
    closing: bytes  # the choice, after the text
    ending: bytes  # the last choice, up to the finish reason


CHAT = Form(
    "chat",
    "chatcmpl-",
    "chat.completion",
    "chat.completion.chunk",
    b'"delta":{"content":',
    b'},"logprobs":null,"finish_reason":null}]',
    b'"delta":{},"logprobs":null,"finish_reason":',
)
COMPLETION = Form(
    "text_completion",
    "cmpl-",
    "text_completion",
    "text_completion",
    b'"text":',
    b',"logprobs":null,"finish_reason":null}]',
    b'"text":"","logprobs":null,"finish_reason":',
)


class Events:
    """Writes the events of one stream."""

    def __init__(
        self, form: Form, request_id: str, created: int, model: str, *, with_usage: bool
    ) -> None:
        self._form = form
        head = {
            "id": form.id_prefix + request_id,
            "object": form.event_object,
            "created": created,
            "model": model,
        }
        self._head = b"data: " + _json(head)[:-1] + b',"choices":['
        # OpenAI: with include_usage every other chunk has a usage of null.
        self._tail = b',"usage":null' if with_usage else b""
        self._close = form.closing + self._tail + b"}\n\n"
        self._openings: dict[int, bytes] = {}

    def is_open(self, choice: int) -> bool:
        """Whether the choice was opened."""
        return choice in self._openings

    def open(self, choice: int) -> bytes:
        """The event that opens a choice; plain completions have none."""
        self._openings[choice] = self._head + b'{"index":%d,' % choice + self._form.opening
        if self._form is COMPLETION:
            return b""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""}' % choice
        return (
            self._head + delta + b',"logprobs":null,"finish_reason":null}]' + self._tail + b"}\n\n"
        )

    def text(self, choice: int, text: str) -> bytes:
        """The event of new text in an open choice."""
        return self._openings[choice] + _json(text) + self._close

    def lane(self, write: Callable[[bytes], bool]) -> Callable[[int, str], bool]:
        """What writes the events of new text in open choices; false where `write` is, or cannot."""
        openings, close, as_json = self._openings, self._close, _json

        def carry(choice: int, text: str) -> bool:
            if choice not in openings:
                return False
            return not text or write(openings[choice] + as_json(text) + close)

        return carry

    def finish(self, choice: int, reason: str, explain: dict[str, Any] | None) -> bytes:
        """The event that ends a choice; `explain` where it is also the stream's last chunk."""
        end = self._form.ending + _json(reason) + b"}]" + self._tail + _explained(explain)
        return self._head + b'{"index":%d,' % choice + end + b"}\n\n"

    def usage(self, usage: Usage, explain: dict[str, Any] | None) -> bytes:
        """The event with the usage, which has no choice."""
        return self._head + b'],"usage":' + _json(usage.as_json()) + _explained(explain) + b"}\n\n"


def error(body: bytes) -> bytes:
    """The event that ends a stream which cannot go on; `body` is the error's JSON."""
    return b"data: " + body + b"\n\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished choice."""

    text: str
    finish_reason: str


def body(
    form: Form,
    request_id: str,
    created: int,
    model: str,
    choices: list[Choice],
    usage: Usage,
    explain: dict[str, Any] | None,
) -> bytes:
    """The JSON body of an answer that is not streamed."""
    write = _chat_choice if form is CHAT else _text_choice
    answer = {
        "id": form.id_prefix + request_id,
        "object": form.body_object,
        "created": created,
        "model": model,
        "choices": [write(index, choice) for index, choice in enumerate(choices)],
        "usage": usage.as_json(),
    }
    if explain is not None:
        answer["headway"] = explain
    return _json(answer)


def models(pools: Mapping[str, Pool], created: int) -> bytes:
    """The list of models, by name."""
    entries = [_model(name, pool, created) for name, pool in sorted(pools.items())]
    return _json({"object": "list", "data": entries})


def model(name: str, pool: Pool, created: int) -> bytes:
    """One model."""
    return _json(_model(name, pool, created))


def _model(name: str, pool: Pool, created: int) -> dict[str, Any]:
    """A model's entry; an adapter names the model that it adapts."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "headway",
        "max_model_len": pool.max_model_tokens,
        **({"parent": pool.parent} if pool.parent else {}),
    }


def version(number: str) -> bytes:
    """What runs here."""
    return _json({"version": number})


def accounts(kept: list[dict[str, Any]] | dict[str, Any]) -> bytes:
    """One account or many, as JSON."""
    return _json(kept)


def _explained(explain: dict[str, Any] | None) -> bytes:
    return b"" if explain is None else b',"headway":' + _json(explain)


def _chat_choice(index: int, choice: Choice) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }


def _text_choice(index: int, choice: Choice) -> dict[str, Any]:
    return {
        "index": index,
        "text": choice.text,
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }
