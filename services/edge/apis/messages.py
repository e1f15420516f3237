"""Anthropic's Messages API, read as a chat. Pure.

As in openai.py, the structs are the whole list of parameters. `cache_control` changes nothing:
whatever is cached is used, and found, without being told.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.edge.apis import structure
from services.edge.apis.ask import Ask, ask_of
from services.edge.apis.openai import (
    ChatBody,
    Function,
    Label,
    Message,
    Positive,
    Stop,
    TextPart,
    ToolCall,
    Unit,
    check_chat,
    parse,
)
from services.edge.apis.refusals import Invalid
from services.edge.apis.responses import renamed
from services.edge.apis.tools import (
    TOOLS_LIMIT,
    Name,
    NamedFunction,
    NamedTool,
    Tool,
    ToolChoice,
    ToolFunction,
)
from services.edge.apis.writing import Form

MESSAGES_LIMIT = 10_000


class CacheControl(Struct, forbid_unknown_fields=True):
    """A hint for Anthropic's cache."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """A text."""

    text: str
    cache_control: CacheControl | None = None
    citations: None = None


class ToolUseBlock(Struct, tag="tool_use", tag_field="type", forbid_unknown_fields=True):
    """A call that the model made."""

    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None


class ToolResultBlock(Struct, tag="tool_result", tag_field="type", forbid_unknown_fields=True):
    """What came of a call."""

    tool_use_id: Annotated[str, Meta(min_length=1)]
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class Turn(Struct, forbid_unknown_fields=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[TextBlock | ToolUseBlock | ToolResultBlock], Meta(min_length=1)]


class CustomTool(Struct, forbid_unknown_fields=True):
    """A tool that the caller runs."""

    name: Name
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class AutoChoice(Struct, tag="auto", tag_field="type", forbid_unknown_fields=True):
    """Any tool, or none."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(Struct, tag="any", tag_field="type", forbid_unknown_fields=True):
    """One tool at least."""

    disable_parallel_tool_use: bool | None = None


class NamedChoice(Struct, tag="tool", tag_field="type", forbid_unknown_fields=True):
    """This tool."""

    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(Struct, tag="none", tag_field="type", forbid_unknown_fields=True):
    """No tool."""


Choice = AutoChoice | AnyChoice | NamedChoice | NoChoice


class Thinking(Struct, forbid_unknown_fields=True):
    """Whether the model is to think aloud."""

    type: Literal["disabled"]


class OutputFormat(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True):
    """The answer follows a JSON Schema."""

    schema: dict[str, Any]


class OutputConfig(Struct, forbid_unknown_fields=True):
    """The form of the answer."""

    format: OutputFormat | None = None


class MetadataOfUser(Struct, forbid_unknown_fields=True):
    """Who the request is for."""

    user_id: Label | None = None


class CountBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MESSAGES_LIMIT)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[CustomTool], Meta(max_length=TOOLS_LIMIT)] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None


class MessagesBody(CountBody, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/messages`."""

    max_tokens: Positive
    stream: bool | None = None
    temperature: Unit | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=16)] | None = None
    metadata: MetadataOfUser | None = None
    service_tier: Literal["auto", "standard_only"] | None = None  # none goes before the others


Body = TypeVar("Body", bound=CountBody)

# What a chat calls otherwise; the longer name goes first.
_NAMES = (
    ("response_format.json_schema", "output_config.format"),
    ("response_format", "output_config.format"),
    ("stop", "stop_sequences"),
)


def read_messages(body: bytes, form: Form) -> Ask | Invalid:
    """Read `POST /v1/messages`."""
    asked = parse(_MESSAGES, body)
    if isinstance(asked, Invalid):
        return asked
    refused = _misplaced(asked)
    if refused is not None:
        return refused
    chat = _chat(asked)
    chat.stream = asked.stream
    chat.max_tokens = asked.max_tokens
    chat.temperature, chat.top_p, chat.top_k = asked.temperature, asked.top_p, asked.top_k
    chat.stop = asked.stop_sequences
    chat.user = None if asked.metadata is None else asked.metadata.user_id
    ask = check_chat(chat) or ask_of(form, chat, [])
    return in_messages_words(ask) if isinstance(ask, Invalid) else ask


def read_count(body: bytes) -> ChatBody | Invalid:
    """Read `POST /v1/messages/count_tokens`."""
    asked = parse(_COUNT, body)
    if isinstance(asked, Invalid):
        return asked
    chat = _chat(asked)
    fault = (
        _misplaced(asked) or check_chat(chat) or structure.constraint(chat.response_format, None)
    )
    return in_messages_words(fault) if isinstance(fault, Invalid) else chat


def in_messages_words(invalid: Invalid) -> Invalid:
    """A fault of the chat, by the message's own parameter."""
    param = invalid.param
    if param is not None and param.startswith("tools["):
        own = param.replace(".function", "", 1).replace(".parameters", ".input_schema", 1)
        return Invalid(invalid.message.replace(param, own), own, invalid.code)
    return renamed(invalid, _NAMES)


def _chat(asked: CountBody) -> ChatBody:
    turns = [message for turn in asked.messages for message in _messages(turn)]
    system = [] if not asked.system else [Message("system", _text(asked.system))]
    choice = asked.tool_choice
    return ChatBody(
        model=asked.model,
        messages=[*system, *turns],
        # The model goes on with what the last turn begins.
        continue_final_message=True if asked.messages[-1].role == "assistant" else None,
        response_format=_response_format(asked.output_config),
        tools=[_tool(each) for each in asked.tools] if asked.tools else None,
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=_parallel(choice),
        include_reasoning=False,  # which thinking would ask for
    )


def _misplaced(asked: CountBody) -> Invalid | None:
    for position, turn in enumerate(asked.messages):
        kinds = {type(block) for block in turn.content if not isinstance(block, str)}
        foreign = kinds - {TextBlock, _BLOCKS.get(turn.role, TextBlock)}
        if foreign:
            message = f"A turn of role `{turn.role}` has blocks that only the others may have"
            return Invalid(message, f"messages[{position}]")
        if ToolUseBlock in kinds and position + 1 == len(asked.messages):
            return Invalid("The last turn must not wait for tools", f"messages[{position}]")
    return None


_BLOCKS: dict[str, type] = {"user": ToolResultBlock, "assistant": ToolUseBlock}


def _messages(turn: Turn) -> Iterator[Message]:
    """The messages of a turn: the result of a call is one of its own."""
    if isinstance(turn.content, str):
        yield Message(turn.role, turn.content)
        return
    said = [block for block in turn.content if isinstance(block, TextBlock)]
    used = [block for block in turn.content if isinstance(block, ToolUseBlock)]
    for block in turn.content:
        if isinstance(block, ToolResultBlock):
            yield Message("tool", _result(block), tool_call_id=block.tool_use_id)
    if said or used:
        content = _text(said) if said else None
        yield Message(turn.role, content, tool_calls=[_call(each) for each in used] or None)


def _text(content: str | Sequence[TextBlock]) -> str | list[TextPart]:
    return content if isinstance(content, str) else [TextPart(block.text) for block in content]


def _result(block: ToolResultBlock) -> str | list[TextPart]:
    """What came of a call; a chat has no other way to tell that it failed."""
    content = _text(block.content or "")
    if not block.is_error:
        return content
    return f"Error: {content}" if isinstance(content, str) else [TextPart("Error:"), *content]


def _call(block: ToolUseBlock) -> ToolCall:
    arguments = msgspec.json.encode(block.input).decode()
    return ToolCall(id=block.id, function=Function(name=block.name, arguments=arguments))


def _response_format(config: OutputConfig | None) -> structure.ResponseFormat | None:
    if config is None or config.format is None:
        return None
    return structure.JsonSchema(structure.NamedSchema("output", config.format.schema))


def _tool(tool: CustomTool) -> Tool:
    function = ToolFunction(tool.name, tool.description, tool.input_schema, tool.strict)
    return Tool("function", function)


def _tool_choice(choice: Choice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case NamedChoice(name):
            return NamedTool("function", NamedFunction(name))
        case AnyChoice():
            return "required"
        case AutoChoice():
            return "auto"
        case NoChoice():
            return "none"


def _parallel(choice: Choice | None) -> bool | None:
    if choice is None or isinstance(choice, NoChoice):
        return None
    return False if choice.disable_parallel_tool_use else None


_MESSAGES = msgspec.json.Decoder(MessagesBody)
_COUNT = msgspec.json.Decoder(CountBody)
