"""What comes in: prompts. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str | None = None
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning_content: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call."""

    name: str
    description: str = ""
    parameters_json: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, oldest message first."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    template_kwargs_json: str = ""
    reasoning_effort: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ids that the caller has already."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to encode, and what seeds its block hashes."""

    model: str
    input: Chat | Text | TokenIds
    adapter: str = ""
    cache_salt: str = ""
    add_special_tokens: bool | None = None  # None: for text, but not for a conversation
