"""The Responses API's answers as bytes: its events and its response object. Pure; the hot path.

A response is a list of items: what the model thought, what it said, the calls that it made. An
item is open while it grows; the next one closes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.edge.apis import logprobs
from services.edge.apis.events import DONE
from services.edge.apis.logprobs import Entry
from services.edge.apis.openai import Function, Message, ToolCall
from services.edge.apis.refusals import Invalid, Overloaded, Refusal, fault
from services.edge.apis.responses import NamedFunction, ResponsesBody
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

_json = msgspec.json.encode

# Takes a finished response: its id, its JSON, its items, and the message that it is in a
# conversation.
Keep = Callable[[str, bytes, Sequence[Mapping[str, Any]], Message], None]


@dataclass(slots=True)
class Item:
    """One item of a response, as far as it came."""

    kind: str  # of `_PARTS`, or function_call
    item_id: str
    call_id: str = ""
    name: str = ""
    texts: list[str] = field(default_factory=list)
    entries: list[Entry] | None = None

    @property
    def text(self) -> str:
        """What was said, thought, or given to the call."""
        return "".join(self.texts)

    def part(self, text: str) -> dict[str, Any]:
        """The one part of its content, with so much of its text."""
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        told = _logprobs(self.entries) if text else []
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}

    def as_json(self, status: str) -> dict[str, Any]:
        """The item in the response's output; one that is in progress is still empty."""
        text = "" if status == "in_progress" else self.text
        head = {"id": self.item_id, "type": self.kind, "status": status}
        if self.kind == "function_call":
            return {**head, "call_id": self.call_id, "name": self.name, "arguments": text}
        content = [] if status == "in_progress" else [self.part(text)]
        if self.kind == "reasoning":
            return {**head, "summary": [], "content": content}
        return {**head, "role": "assistant", "content": content}


def _logprobs(entries: Sequence[Entry] | None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = logprobs.chat(entries or ())["content"]
    return content


class ResponsesForm:
    """The form of one response. `keep` is None for what is not to be kept."""

    operation = "chat"

    def __init__(self, body: ResponsesBody, keep: Keep | None) -> None:
        self._told = told(body, is_kept=keep is not None)
        self._keep = keep

    def writer(self, head: Head, extras: Extras) -> "ResponseEvents":
        """What writes a stream."""
        return ResponseEvents(self, head)

    def body(self, head: Head, choices: Sequence[Choice], closing: Closing) -> bytes:
        """The response object."""
        [choice] = choices
        items = _items(head, choice)
        return self.finished(head, items, choice.finish_reason, closing)[1]

    def response(
        self, head: Head, status: str, output: Sequence[Mapping[str, Any]], **more: Any
    ) -> dict[str, Any]:
        """The response object at some point of its life."""
        return {
            "id": "resp_" + head.request_id,
            "object": "response",
            "created_at": head.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": head.model,
            "output": output,
            "usage": None,
            "service_tier": head.service_tier,
            **self._told,
            **more,
        }

    def finished(
        self, head: Head, items: Sequence[Item], reason: str, closing: Closing
    ) -> tuple[str, bytes]:
        """The response's last status and its JSON; it is kept from now on."""
        status = "incomplete" if reason == "length" else "completed"
        more: dict[str, Any] = {"usage": _usage(closing.usage)}
        if status == "incomplete":
            more["incomplete_details"] = {"reason": "max_output_tokens"}
        if closing.explain is not None:
            more["headway"] = closing.explain
        done = [item.as_json("completed") for item in items[:-1]]
        output = [*done, *(item.as_json(status) for item in items[-1:])]
        response = _json(self.response(head, status, output, **more))
        if self._keep is not None:
            self._keep("resp_" + head.request_id, response, output, _answer(items))
        return status, response


def told(body: ResponsesBody, *, is_kept: bool) -> dict[str, Any]:
    """What a response tells of its request."""
    choice = body.tool_choice
    text = {"format": {"type": "text"}} if body.text is None or body.text.format is None else None
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "store": is_kept,
        "temperature": body.temperature,
        "text": text or msgspec.to_builtins(body.text),
        "tool_choice": msgspec.to_builtins(choice)
        if isinstance(choice, NamedFunction)
        else choice or "auto",
        "tools": msgspec.to_builtins(body.tools or []),
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _items(head: Head, choice: Choice) -> list[Item]:
    items = []
    if choice.reasoning:
        items.append(Item("reasoning", f"rs_{head.request_id}", texts=[choice.reasoning]))
    if choice.text or not (choice.reasoning or choice.calls):
        said = Item("message", f"msg_{head.request_id}_{len(items)}", texts=[choice.text])
        said.entries = None if choice.entries is None else list(choice.entries)
        items.append(said)
    return [*items, *(_call(head, call, [call.arguments]) for call in choice.calls)]


def _call(head: Head, call: CallDelta, texts: list[str]) -> Item:
    item_id = f"fc_{head.request_id}_{call.index}"
    return Item("function_call", item_id, call.id, call.name, texts)


def _answer(items: Sequence[Item]) -> Message:
    """What was answered, as a message of the conversation."""
    said = "".join(item.text for item in items if item.kind == "message")
    thought = "".join(item.text for item in items if item.kind == "reasoning")
    calls = [
        ToolCall(id=item.call_id, function=Function(name=item.name, arguments=item.text))
        for item in items
        if item.kind == "function_call"
    ]
    return Message(
        role="assistant",
        content=None if calls and not said else said,
        tool_calls=calls or None,
        reasoning_content=thought or None,
    )


# The events of an item's text, by its kind.
_PARTS = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_text",
    "function_call": "response.function_call_arguments",
}


class ResponseEvents:
    """Writes the events of one streamed response."""

    def __init__(self, form: ResponsesForm, head: Head) -> None:
        self._form = form
        self._head = head
        self._number = 0  # of the next event
        self._items: list[Item] = []
        self._open: Item | None = None
        self._delta = b""  # the event of more text of the open item, up to the text

    def begin(self, usage: Usage) -> bytes:
        """The response, created and in progress."""
        response = self._form.response(self._head, "in_progress", [])
        created = self._event("response.created", response=response)
        return created + self._event("response.in_progress", response=response)

    def new(self, new: New) -> bytes:
        """The events of what is new; each kind of content is an item of its own."""
        out = b""
        if new.reasoning:
            out += self._in("reasoning", "rs") + self._grow(new.reasoning)
        if new.text or new.entries:
            out += self._in("message", "msg") + self._say(new.text, new.entries)
        for call in new.calls:
            if call.name:
                out += self._close("completed") + self._begin(_call(self._head, call, []))
            if call.arguments:
                out += self._grow(call.arguments)
        return out

    def _in(self, kind: str, prefix: str) -> bytes:
        """Be in an open item of this kind."""
        if self._open is not None and self._open.kind == kind:
            return b""
        item_id = f"{prefix}_{self._head.request_id}_{len(self._items)}"
        return self._close("completed") + self._begin(Item(kind, item_id))

    def _begin(self, item: Item) -> bytes:
        self._open = item
        self._items.append(item)
        kind = _PARTS[item.kind] + ".delta"
        logprobs = b',"logprobs":[]' if item.kind == "message" else b""
        fields = {"type": kind, **self._place(item)}
        start = b"event: " + kind.encode() + b"\ndata: " + _json(fields)[:-1]
        self._delta = start + logprobs + b',"delta":'
        added = self._event(
            "response.output_item.added",
            output_index=len(self._items) - 1,
            item=item.as_json("in_progress"),
        )
        if item.kind == "function_call":
            return added
        part = item.part("")
        return added + self._event("response.content_part.added", **self._place(item), part=part)

    def _place(self, item: Item) -> dict[str, Any]:
        place = {"item_id": item.item_id, "output_index": len(self._items) - 1}
        return place if item.kind == "function_call" else {**place, "content_index": 0}

    def _grow(self, text: str) -> bytes:
        """More of the open item's text. What begins with it ends in `_number`."""
        assert self._open is not None, "an item is opened before it grows"
        self._open.texts.append(text)
        event = self._delta + _json(text) + b',"sequence_number":%d}\n\n' % self._number
        self._number += 1
        return event

    def _say(self, text: str, entries: Sequence[Entry] | None) -> bytes:
        item = self._open
        assert item is not None, "an item is opened before it grows"
        if entries is None:
            return self._grow(text)
        item.entries = [*(item.entries or ()), *entries]
        item.texts.append(text)
        told = {**self._place(item), "delta": text, "logprobs": _logprobs(entries)}
        return self._event("response.output_text.delta", **told)

    def _close(self, status: str) -> bytes:
        """The events that end the open item."""
        item, self._open = self._open, None
        if item is None:
            return b""
        place, name = self._place(item), _PARTS[item.kind]
        if item.kind == "function_call":
            out = self._event(f"{name}.done", **place, name=item.name, arguments=item.text)
        else:
            part = item.part(item.text)
            whole = {key: part[key] for key in ("text", "logprobs") if key in part}
            out = self._event(f"{name}.done", **place, **whole)
            out += self._event("response.content_part.done", **place, part=part)
        index = place["output_index"]
        done = item.as_json(status)
        return out + self._event("response.output_item.done", output_index=index, item=done)

    def lane(self, write: Write) -> Carry | None:
        """What writes the events of new text while a message is open."""
        as_json = _json

        def carry(choice: int, text: str) -> bool:
            item = self._open
            if item is None or item.kind != "message":
                return False
            if text:
                event = self._delta + as_json(text) + b',"sequence_number":%d}\n\n' % self._number
                if not write(event):
                    return False
                self._number += 1
                item.texts.append(text)
            return True

        return carry

    def ends(self, ends: Sequence[New], closing: Closing | None) -> bytes:
        """The events that end the response: there is one choice."""
        assert closing is not None, "the end of the one choice is the stream's"
        [end] = ends
        out = b"" if self._items else self._in("message", "msg")  # as OpenAI answers with no text
        out += self._close("incomplete" if end.finish_reason == "length" else "completed")
        status, response = self._form.finished(self._head, self._items, end.finish_reason, closing)
        return out + self._event(f"response.{status}", response=msgspec.Raw(response)) + DONE

    def broken(self, refusal: Refusal) -> bytes:
        """The response, failed, with what had come of it."""
        output = [
            item.as_json("incomplete" if item is self._open else "completed")
            for item in self._items
        ]
        error = {"code": _code(refusal), "message": fault(refusal).message}
        response = self._form.response(self._head, "failed", output, error=error)
        return self._event("response.failed", response=response) + DONE

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = _json({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _code(refusal: Refusal) -> str:
    """The refusal among the codes that a response's error may have."""
    if isinstance(refusal, Overloaded):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(refusal, Invalid) else "server_error"
