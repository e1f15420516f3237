"""The Messages API's answers as bytes: its events, its message, its errors. Pure; the hot path.

A message is a list of blocks: texts, and uses of tools. A block is open while it grows; the next
one closes it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from services.edge.apis.refusals import Answer, Fault, Overloaded, Refusal, fault
from services.edge.apis.writing import (
    CallDelta,
    Carry,
    Choice,
    Closing,
    Extras,
    Head,
    New,
    Stop,
    Usage,
    Write,
)

_json = msgspec.json.encode

_NO_BLOCK = -1

# Anthropic's names for what is wrong, by status, where they are not the usual ones.
_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    529: "overloaded_error",
}


def answer(refusal: Refusal) -> Answer:
    """The HTTP answer to a refusal, in Anthropic's words."""
    told = _fault(refusal)
    return Answer(told.status, _json(_error(told)), told.headers)


def _fault(refusal: Refusal) -> Fault:
    """What it comes to. Anthropic's 429 is for a caller's own limits; a fleet is full with 529."""
    told = fault(refusal)
    return replace(told, status=529) if isinstance(refusal, Overloaded) else told


def _error(told: Fault) -> dict[str, Any]:
    """Anthropic's error has no field for the parameter: the message begins with it."""
    named = told.param is not None and f"`{told.param}`" in told.message
    message = told.message if told.param is None or named else f"{told.param}: {told.message}"
    usual = "invalid_request_error" if told.status < 500 else "api_error"
    kind = _KINDS.get(told.status, usual)
    return {"type": "error", "error": {"type": kind, "message": message}}


class MessagesForm:
    """The form of a message."""

    operation = "chat"

    def writer(self, head: Head, extras: Extras) -> "MessageEvents":
        """What writes a stream."""
        return MessageEvents(head)

    def body(self, head: Head, choices: Sequence[Choice], closing: Closing) -> bytes:
        """The message."""
        [choice] = choices
        blocks: list[dict[str, Any]] = []
        if choice.text or not choice.calls:
            blocks.append({"type": "text", "text": choice.text, "citations": None})
        blocks += [_use(call, _input(call.arguments)) for call in choice.calls]
        message = {
            **_message(head, blocks, _usage(closing.usage)),
            **_stopped(choice.finish_reason, choice.stop, bool(choice.calls)),
        }
        if closing.explain is not None:
            message["headway"] = closing.explain
        return _json(message)


MESSAGES = MessagesForm()


def _message(
    head: Head, content: Sequence[dict[str, Any]], usage: dict[str, int]
) -> dict[str, Any]:
    return {
        "id": "msg_" + head.request_id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(usage: Usage) -> dict[str, int]:
    """Anthropic counts what was read from the cache apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _stopped(reason: str, stop: Stop, has_calls: bool) -> dict[str, str | None]:
    """Why it ended. A chat whose tool was named ends with `stop`; here that is a use of it."""
    if reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if has_calls:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if isinstance(stop, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _use(call: CallDelta, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments; of one that was cut off there is no object yet."""
    try:
        given = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}
    return given if isinstance(given, dict) else {}


class MessageEvents:
    """Writes the events of one streamed message."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._block = _NO_BLOCK  # the last one that was opened
        self._is_open = False
        self._is_text = False
        self._has_calls = False
        self._delta = b""  # the event of more of the open block, up to the text

    def begin(self, usage: Usage) -> bytes:
        """The message, still empty. Its usage has one token of output: that of the first event."""
        message = _message(self._head, [], _usage(usage))
        return _event("message_start", message=message) + _event("ping")

    def new(self, new: New) -> bytes:
        """The events of what is new; each kind of content is a block of its own."""
        out = b""
        if new.text:
            if not (self._is_open and self._is_text):
                out += self._open_text()
            out += self._grow(new.text)
        for call in new.calls:
            if call.name:
                out += self._open(_use(call, {}), b'"input_json_delta","partial_json":')
                self._has_calls, self._is_text = True, False
            if call.arguments:
                out += self._grow(call.arguments)
        return out

    def _open_text(self) -> bytes:
        self._is_text = True
        block = {"type": "text", "text": "", "citations": None}
        return self._open(block, b'"text_delta","text":')

    def _open(self, block: dict[str, Any], delta: bytes) -> bytes:
        out = self._close()
        self._block += 1
        self._is_open = True
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        self._delta = head % self._block + b'"delta":{"type":' + delta
        return out + _event("content_block_start", index=self._block, content_block=block)

    def _grow(self, text: str) -> bytes:
        return self._delta + _json(text) + b"}}\n\n"

    def _close(self) -> bytes:
        if not self._is_open:
            return b""
        self._is_open = False
        return _event("content_block_stop", index=self._block)

    def lane(self, write: Write) -> Carry | None:
        """What writes the events of new text while a block of text is open."""
        as_json = _json

        def carry(choice: int, text: str) -> bool:
            if not (self._is_open and self._is_text):
                return False
            return not text or write(self._delta + as_json(text) + b"}}\n\n")

        return carry

    def ends(self, ends: Sequence[New], closing: Closing | None) -> bytes:
        """The events that end the message: there is one choice."""
        assert closing is not None, "the end of the one choice is the stream's"
        [end] = ends
        out = self._open_text() if self._block == _NO_BLOCK else b""  # a message has a block
        out += self._close()
        delta = _stopped(end.finish_reason, end.stop, self._has_calls)
        explained = {} if closing.explain is None else {"headway": closing.explain}
        usage = _usage(closing.usage)
        out += _event("message_delta", delta=delta, usage=usage, **explained)
        return out + _event("message_stop")

    def broken(self, refusal: Refusal) -> bytes:
        """The event that ends a stream which cannot go on."""
        return b"event: error\ndata: " + _json(_error(_fault(refusal))) + b"\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    data = _json({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
