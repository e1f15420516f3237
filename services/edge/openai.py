"""What clients may ask, in OpenAI's words. Pure.

The structs below are the whole list of parameters: one that is not here is refused by name,
none is dropped. `null` means the same as absent, as it does for OpenAI.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.edge.refusals import Invalid

Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Stop = Annotated[str, Meta(min_length=1)]


class TextPart(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """A text part of a message's content."""

    text: str


class Function(Struct, forbid_unknown_fields=True):
    """The function that an assistant called."""

    name: str
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True):
    """A call that an assistant made."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class Message(Struct, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream holds beside the text."""

    include_usage: bool | None = None


class NamedSchema(Struct, forbid_unknown_fields=True):
    """A JSON Schema with a name."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class FreeText(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """The answer may be any text."""


class JsonObject(Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True):
    """The answer is a JSON object."""


class JsonSchema(Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True):
    """The answer follows a JSON Schema."""

    json_schema: NamedSchema


class Sampling(Struct, forbid_unknown_fields=True):
    """The parameters that all ways to generate share; vLLM's own included."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Unit | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    include_stop_str_in_output: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=64)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    response_format: FreeText | JsonObject | JsonSchema | None = None
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    cache_salt: str | None = None


class ChatBody(Sampling, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=10_000)]
    max_completion_tokens: Positive | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionBody(Sampling, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/completions`."""

    prompt: str | list[Any]


Prompt = str | list[int]
T = TypeVar("T")

PROMPTS_LIMIT = 128
_WHERE = re.compile(r" - at (?:`key` in )?`\$(.*)`$", re.DOTALL)
_FIELD = re.compile(r"(unknown|missing required) field `([^`]*)`")


def parse_chat(body: bytes) -> ChatBody | Invalid:
    """Read the body of a chat completion."""
    chat = parse(_CHAT, body)
    return chat if isinstance(chat, Invalid) else check_chat(chat) or chat


def parse_completion(body: bytes) -> CompletionBody | Invalid:
    """Read the body of a completion."""
    completion = parse(_COMPLETION, body)
    return completion if isinstance(completion, Invalid) else _check(completion) or completion


def prompts(completion: CompletionBody) -> list[Prompt] | Invalid:
    """The prompts of a completion: one text, one list of token ids, or a list of either."""
    prompt = completion.prompt
    if isinstance(prompt, str):
        found: list[Prompt] = [prompt]
    elif prompt and all(_is_token(item) for item in prompt):
        found = [prompt]
    else:
        found = prompt
    if not 1 <= len(found) <= PROMPTS_LIMIT:
        return Invalid(f"Expected 1 to {PROMPTS_LIMIT} prompts, got {len(found)}", "prompt")
    for position, item in enumerate(found):
        if not (isinstance(item, str) or (isinstance(item, list) and all(map(_is_token, item)))):
            return Invalid("Expected a text or a list of token ids", f"prompt[{position}]")
        if not item:
            return Invalid("A prompt must not be empty", "prompt")
    return found


def stops(sampling: Sampling) -> list[str]:
    """The stop strings, however they were given."""
    if isinstance(sampling.stop, str):
        return [sampling.stop]
    return sampling.stop or []


def text_of(content: str | list[TextPart] | None) -> str | None:
    """The text of a message; parts are joined as vLLM joins them, by line ends."""
    if isinstance(content, list):
        return "\n".join(part.text for part in content)
    return content


def max_tokens(body: ChatBody | CompletionBody) -> int | None:
    """The most tokens that a choice may have; None means as many as the context leaves."""
    if isinstance(body, CompletionBody):
        return 16 if body.max_tokens is None else body.max_tokens  # OpenAI's default
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _is_token(item: object) -> bool:
    return type(item) is int and 0 <= item < 2**32


def check_chat(chat: ChatBody) -> Invalid | None:
    """What is wrong with a chat beyond the types of its parts."""
    return _check_chat(chat) or _check(chat)


def _check_chat(chat: ChatBody) -> Invalid | None:
    if None not in (chat.max_tokens, chat.max_completion_tokens):
        return Invalid("Give max_tokens or max_completion_tokens, not both", "max_tokens")
    if chat.continue_final_message and chat.add_generation_prompt:
        message = "continue_final_message excludes add_generation_prompt"
        return Invalid(message, "continue_final_message")
    for position, said in enumerate(chat.messages):
        missing = _missing(said)
        if missing:
            return Invalid(missing, f"messages[{position}]")
    return None


def _missing(message: Message) -> str | None:
    if message.role == "tool" and not message.tool_call_id:
        return "A message of role `tool` needs `tool_call_id`"
    if message.content is None and not (message.role == "assistant" and message.tool_calls):
        return f"A message of role `{message.role}` needs `content`"
    if message.refusal is not None:
        return "`refusal` is not supported in messages"
    return None


def _check(body: ChatBody | CompletionBody) -> Invalid | None:
    if body.stream_options is not None and not body.stream:
        return Invalid("stream_options is only allowed with stream", "stream_options")
    if body.top_k == 0:
        return Invalid("top_k must be -1 (all tokens) or at least 1", "top_k")
    limit = max_tokens(body)
    if body.min_tokens and limit is not None and body.min_tokens > limit:
        return Invalid(f"min_tokens must be at most max_tokens, which is {limit}", "min_tokens")
    return None


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T | Invalid:
    """Read a body."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _explain(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Invalid("The body is not valid JSON", code="invalid_json")
    except RecursionError:
        return Invalid("The body is nested too deeply", code="invalid_json")


def _explain(text: str) -> Invalid:
    where = _WHERE.search(text)
    # A value of a map has no name of its own.
    path = where[1].removeprefix(".").removesuffix("[...]") if where else ""
    field = _FIELD.search(text)
    if field is None:
        message = _WHERE.sub("", text) + (f" in `{path}`" if path else "")
        return Invalid(message, path or None, "invalid_value")
    param = f"{path}.{field[2]}".removeprefix(".")
    if field[1] == "unknown":
        return Invalid(f"Unknown or unsupported parameter: `{param}`", param, "unknown_parameter")
    return Invalid(f"Missing required parameter: `{param}`", param, "missing_required_parameter")


_CHAT = msgspec.json.Decoder(ChatBody)
_COMPLETION = msgspec.json.Decoder(CompletionBody)
