"""OpenAI's Responses API, read as a chat. Pure.

As in openai.py, the structs are the whole list of parameters. What the edge cannot do for a
response (hosted tools, background, stored prompts, truncation) is refused by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headway.worker.v1 import worker_pb2 as worker
from services.edge.apis import structure
from services.edge.apis.ask import Ask
from services.edge.apis.openai import (
    Alternatives,
    ChatBody,
    Function,
    Label,
    Message,
    Metadata,
    Positive,
    Stop,
    TextPart,
    ToolCall,
    check_chat,
    parse,
    read_part,
)
from services.edge.apis.refusals import Invalid
from services.edge.apis.tools import TOOLS_LIMIT, Name, NamedTool, Tool, ToolChoice, ToolFunction
from services.edge.apis.tools import NamedFunction as NamedInChat
from services.edge.apis.writing import Form

Status = Literal["in_progress", "completed", "incomplete"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
LOGPROBS = "message.output_text.logprobs"
ITEMS_LIMIT = 10_000


class InputText(Struct, tag="input_text", tag_field="type", forbid_unknown_fields=True):
    """A text of the caller."""

    text: str


class OutputText(Struct, tag="output_text", tag_field="type", forbid_unknown_fields=True):
    """A text of an earlier answer."""

    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    logprobs: list[Any] | None = None  # of tokens that are told already


class ReasoningText(Struct, tag="reasoning_text", tag_field="type", forbid_unknown_fields=True):
    """What a model thought."""

    text: str


class SaidItem(Struct, tag="message", tag_field="type", forbid_unknown_fields=True):
    """A message."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | OutputText]
    id: str | None = None
    status: Status | None = None


class CallItem(Struct, tag="function_call", tag_field="type", forbid_unknown_fields=True):
    """A call that the model made."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class OutputItem(Struct, tag="function_call_output", tag_field="type", forbid_unknown_fields=True):
    """What came of a call."""

    call_id: Annotated[str, Meta(min_length=1)]
    output: str | list[InputText]
    id: str | None = None
    status: Status | None = None


class ReasoningItem(Struct, tag="reasoning", tag_field="type", forbid_unknown_fields=True):
    """What the model thought before its next message or call."""

    id: str | None = None
    summary: Annotated[list[Any], Meta(max_length=0)] | None = None
    content: list[ReasoningText] | None = None
    status: Status | None = None


class ReferenceItem(Struct, tag="item_reference", tag_field="type", forbid_unknown_fields=True):
    """An item that is kept here."""

    id: str


Item = SaidItem | CallItem | OutputItem | ReasoningItem


class FunctionTool(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """A function that the model may call."""

    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class NamedFunction(Struct, tag="function", tag_field="type", forbid_unknown_fields=True):
    """The function that the model has to call."""

    name: str


class NamedSchema(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True):
    """The answer follows a JSON Schema."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


Format = structure.FreeText | structure.JsonObject | NamedSchema


class Text(Struct, forbid_unknown_fields=True):
    """The form of the text."""

    format: Format | None = None


class Reasoning(Struct, forbid_unknown_fields=True):
    """How much the model is to think."""

    effort: Effort | None = None


class StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream holds beside the text."""

    include_obfuscation: bool | None = None


class ResponsesBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/responses`; the last parameters are vLLM's."""

    model: str
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=ITEMS_LIMIT)]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    text: Text | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=TOOLS_LIMIT)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: Alternatives | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    truncation: Literal["disabled"] | None = None
    background: bool | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    metadata: Metadata | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    cache_salt: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


# Parameters that a chat has by the same name.
_SAME = (
    "model",
    "stream",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "service_tier",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "repetition_penalty",
    "ignore_eos",
    "skip_special_tokens",
    "priority",
    "cache_salt",
    "chat_template_kwargs",
)

# What a chat calls otherwise; the longer name goes first.
_NAMES = (
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("max_tokens", "max_output_tokens"),
    ("messages", "input"),
    ("reasoning_effort", "reasoning.effort"),
)


@dataclass(frozen=True, slots=True)
class ResponsesAsk:
    """A response that is asked for, but for what it continues."""

    body: ResponsesBody
    items: tuple[Item, ...]  # what this request adds to the conversation
    own: tuple[Message, ...]  # the same, as a chat has it
    chat: ChatBody
    constraint: worker.Constraint | None

    def continuing(self, earlier: Iterable[Message], form: Form) -> Ask:
        """The ask, after an earlier conversation. `instructions` are not a part of that."""
        system = self.body.instructions
        before = [] if system is None else [Message(role="system", content=system)]
        self.chat.messages[:0] = [*before, *earlier]
        return Ask(form, self.chat, [], self.constraint)


@dataclass(frozen=True, slots=True)
class Referring:
    """A response that is asked for with references: what they stand for is still to be found."""

    body: ResponsesBody
    ids: Mapping[int, str]  # of the items that are referred to, by their places

    def resolved(self, found: Mapping[int, dict[str, Any]]) -> ResponsesAsk | Invalid:
        """The ask, with these items in their places."""
        given = [found.get(place, item) for place, item in enumerate(self.body.input)]
        return _asking(self.body, given)  # type: ignore[arg-type]


def read_responses(body: bytes) -> ResponsesAsk | Referring | Invalid:
    """Read `POST /v1/responses`."""
    asked = parse(_BODY, body)
    if isinstance(asked, Invalid):
        return asked
    ids = _references(asked.input)
    if isinstance(ids, Invalid):
        return ids
    return Referring(asked, ids) if ids else _asking(asked, asked.input)


def _references(given: str | list[dict[str, Any]]) -> dict[int, str] | Invalid:
    ids: dict[int, str] = {}
    for place, item in enumerate(given):
        if isinstance(item, dict) and item.get("type") == "item_reference":
            reference = read_part(item, ReferenceItem, f"input[{place}]")
            if isinstance(reference, Invalid):
                return reference
            ids[place] = reference.id
    return ids


def _asking(asked: ResponsesBody, given: str | list[dict[str, Any]]) -> ResponsesAsk | Invalid:
    items = read_items(given)
    if isinstance(items, Invalid):
        return items
    own = conversation(items)
    if isinstance(own, Invalid):
        return own
    refused = _unsupported(asked)
    if refused is not None:
        return refused
    chat = _chat(asked, own)
    checked = check_chat(chat) or structure.constraint(chat.response_format, None)
    if isinstance(checked, Invalid):
        return in_responses_words(checked)
    return ResponsesAsk(asked, tuple(items), tuple(own), chat, checked)


def in_responses_words(invalid: Invalid) -> Invalid:
    """A fault of the chat, by the response's own parameter."""
    if invalid.param is not None and invalid.param.startswith("tools["):
        flat = invalid.param.replace(".function", "", 1)  # of a tool, whose fields are its own here
        return Invalid(invalid.message.replace(invalid.param, flat), flat, invalid.code)
    return renamed(invalid, _NAMES)


def renamed(invalid: Invalid, names: Sequence[tuple[str, str]]) -> Invalid:
    """A fault with its parameter, and what is below it, under another API's name."""
    param = invalid.param or ""
    for chats, own in names:
        if param == chats or param.startswith((f"{chats}.", f"{chats}[")):
            message = invalid.message.replace(chats, own)
            return Invalid(message, own + param.removeprefix(chats), invalid.code)
    return invalid


def read_items(given: str | list[dict[str, Any]]) -> list[Item] | Invalid:
    """The items of `input`; a text is what a user says."""
    if isinstance(given, str):
        return [SaidItem("user", given)]
    items: list[Item] = []
    for position, each in enumerate(given):
        # OpenAI lets a message leave its type out.
        item = read_part({"type": "message", **each}, Item, f"input[{position}]")  # type: ignore[arg-type]
        if isinstance(item, Invalid):
            return item
        items.append(item)
    return items


def conversation(items: Sequence[Item]) -> list[Message] | Invalid:
    """The messages that items stand for."""
    messages: list[Message] = []
    thought: list[str] = []
    for item in items:
        if isinstance(item, ReasoningItem):
            thought += [part.text for part in item.content or ()]
            continue
        _say(messages, _message(item))
        if thought and messages[-1].role == "assistant":
            messages[-1].reasoning_content = "\n".join(thought)
        thought = []
    return messages or Invalid("Expected a message or the output of a call", "input")


def _message(item: SaidItem | CallItem | OutputItem) -> Message:
    match item:
        case SaidItem(role, content):
            return Message(role=role, content=_content(content))
        case CallItem(call_id, name, arguments):
            call = ToolCall(id=call_id, function=Function(name=name, arguments=arguments))
            return Message(role="assistant", tool_calls=[call])
        case OutputItem(call_id, output):
            return Message(role="tool", content=_content(output), tool_call_id=call_id)


def _content(content: str | Sequence[InputText | OutputText]) -> str | list[TextPart]:
    return content if isinstance(content, str) else [TextPart(part.text) for part in content]


def _say(messages: list[Message], new: Message) -> None:
    """Add a message; the calls of a turn are one message with what was said before them."""
    last = messages[-1] if messages else None
    if new.tool_calls and last is not None and last.role == "assistant":
        last.tool_calls = [*(last.tool_calls or ()), *new.tool_calls]
    else:
        messages.append(new)


def _unsupported(body: ResponsesBody) -> Invalid | None:
    if body.background:
        return Invalid("background is not supported: a response is answered at once", "background")
    options = body.stream_options
    if options is not None and options.include_obfuscation:
        message = "include_obfuscation is not supported: events are not padded"
        return Invalid(message, "stream_options.include_obfuscation")
    if options is not None and not body.stream:
        return Invalid("stream_options is only allowed with stream", "stream_options")
    if body.top_logprobs is not None and not body.include:
        return Invalid(f"top_logprobs is only allowed with include {LOGPROBS}", "top_logprobs")
    if not body.tools and body.tool_choice not in (None, "none", "auto"):
        return Invalid("tool_choice is only allowed with tools", "tool_choice")
    return None


def _chat(body: ResponsesBody, own: Sequence[Message]) -> ChatBody:
    chat = ChatBody(
        messages=list(own),
        max_completion_tokens=body.max_output_tokens,
        response_format=_response_format(body.text),
        logprobs=True if body.include else None,
        top_logprobs=body.top_logprobs,
        reasoning_effort=None if body.reasoning is None else body.reasoning.effort,
        tools=[_tool(each) for each in body.tools] if body.tools else None,
        tool_choice=_tool_choice(body.tool_choice) if body.tools else None,
        **{name: getattr(body, name) for name in _SAME},
    )
    if not body.tools:
        chat.parallel_tool_calls = None  # of no calls
    return chat


def _response_format(text: Text | None) -> structure.ResponseFormat | None:
    asked = None if text is None else text.format
    if not isinstance(asked, NamedSchema):
        return asked
    schema = structure.NamedSchema(asked.name, asked.schema, asked.description, asked.strict)
    return structure.JsonSchema(schema)


def _tool(tool: FunctionTool) -> Tool:
    function = ToolFunction(tool.name, tool.description, tool.parameters, tool.strict)
    return Tool("function", function)


def _tool_choice(
    choice: Literal["none", "auto", "required"] | NamedFunction | None,
) -> ToolChoice | None:
    if isinstance(choice, NamedFunction):
        return NamedTool("function", NamedInChat(choice.name))
    return choice


_BODY = msgspec.json.Decoder(ResponsesBody)
