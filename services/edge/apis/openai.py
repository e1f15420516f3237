"""What clients may ask, in OpenAI's words. Pure.

The structs below are the whole list of parameters: one that is not here is refused by name,
none is dropped. `null` means the same as absent, as it does for OpenAI.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from services.edge.apis.refusals import Invalid
from services.edge.apis.structure import ResponseFormat, StructuredOutputs
from services.edge.apis.tools import ToolChoice, Tools, tools_at_fault

Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_TOKEN_ID = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
Stop = Annotated[str, Meta(min_length=1, max_length=1024)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]
Label = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)]


PROMPTS = {
    "title": "texts, of lists of token ids, or of one's token ids",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": _TOKEN_ID, "minItems": 1},
            _TOKEN_ID,
        ]
    },
}
"""What is told of lists of prompts; they are read by `one_or_many`."""


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
    reasoning: str | None = None  # vLLM's name for it
    refusal: str | None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None  # OpenAI's answers have it


class StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream holds beside the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class Sampling(Struct, forbid_unknown_fields=True):
    """The parameters that all ways to generate share; vLLM's own included."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None  # 0 and -1: all tokens
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
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    prompt_logprobs: Alternatives | None = None
    user: Label | None = None
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    cache_salt: Annotated[str, Meta(min_length=1, max_length=512)] | None = None


class ChatBody(Sampling, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=10_000)]
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    modalities: Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    include_reasoning: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )


class CompletionBody(Sampling, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/completions`."""

    prompt: str | Annotated[list[Any], Meta(extra_json_schema=PROMPTS)]
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: Alternatives | None = None
    echo: bool | None = None


Prompt = str | list[int]
T = TypeVar("T")

INVALID_JSON = "invalid_json"
# msgspec says the one of both: it looks for the other half before it looks for the text's end.
_CUT_SHORT = "it is cut short, or has half of a surrogate pair"
PROMPTS_LIMIT = 128
_WHERE = re.compile(r" - at (?:`key` in )?`\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[\d+\]")
_UNKNOWN = "Object contains unknown field"
# By these nothing is asked of parameters that are not served, no more than by null.
ASKS_NOTHING: Mapping[str, Any] = {
    "bad_words": [],
    "documents": [],
    "echo": False,
    "embed_dtype": "float32",
    "function_call": "none",
    "functions": [],
    "kv_transfer_params": {},
    "length_penalty": 1.0,
    "logits_processors": [],
    "mcp_servers": [],
    "mm_processor_kwargs": {},
    "return_token_ids": False,
    "return_tokens_as_token_ids": False,
    "spaces_between_special_tokens": True,
    "use_beam_search": False,
    "verbosity": "medium",
    "vllm_xargs": {},
}
_FIELD = re.compile(r"(unknown|missing required) field `([^`]*)`")


def parse_chat(body: bytes) -> ChatBody | Invalid:
    """Read the body of a chat completion."""
    chat = parse(_CHAT, body)
    return chat if isinstance(chat, Invalid) else check_chat(chat) or chat


def parse_completion(body: bytes) -> CompletionBody | Invalid:
    """Read the body of a completion."""
    completion = parse(_COMPLETION, body)
    if isinstance(completion, Invalid):
        return completion
    return _check_completion(completion) or _check(completion) or completion


def prompts(completion: CompletionBody) -> list[Prompt] | Invalid:
    """The prompts of a completion: one text, one list of token ids, or a list of either."""
    found = one_or_many(completion.prompt)
    if not 1 <= len(found) <= PROMPTS_LIMIT:
        return Invalid(f"Expected 1 to {PROMPTS_LIMIT} prompts, got {len(found)}", "prompt")
    for position, item in enumerate(found):
        if not is_prompt(item):
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


def one_or_many(given: str | list[Any]) -> list[Any]:
    """What may each be a prompt: the only one, a list of token ids too, or those listed."""
    return [given] if isinstance(given, str) or (given and all(map(_is_token, given))) else given


def is_prompt(item: object) -> bool:
    """Whether this is a text or a list of token ids; either may be empty."""
    return isinstance(item, str) or (isinstance(item, list) and all(map(_is_token, item)))


def _is_token(item: object) -> bool:
    return type(item) is int and 0 <= item < 2**32


def check_chat(chat: ChatBody) -> Invalid | None:
    """What is wrong with a chat beyond the types of its parts."""
    return _check_chat(chat) or _check(chat)


def _check_chat(chat: ChatBody) -> Invalid | None:
    if chat.top_logprobs is not None and not chat.logprobs:
        return Invalid("top_logprobs is only allowed with logprobs", "top_logprobs")
    if chat.store:
        return Invalid("store is not supported: completions are not kept", "store")
    if chat.priority is not None and chat.service_tier in ("flex", "priority"):
        return Invalid("Give priority or service_tier, not both", "service_tier")
    if None not in (chat.max_tokens, chat.max_completion_tokens):
        return Invalid("Give max_tokens or max_completion_tokens, not both", "max_tokens")
    if chat.continue_final_message and chat.add_generation_prompt:
        message = "continue_final_message excludes add_generation_prompt"
        return Invalid(message, "continue_final_message")
    for position, said in enumerate(chat.messages):
        fault = _at_fault(said)
        if fault is not None:
            message, name = fault
            return Invalid(message, f"messages[{position}].{name}")
    if chat.tool_choice not in (None, "none", "auto"):
        clash = _beside_a_call(chat)
        if clash is not None:
            return clash
    return tools_at_fault(chat.tools, chat.tool_choice, chat.parallel_tool_calls)


def _beside_a_call(chat: ChatBody) -> Invalid | None:
    """What a demanded call leaves no room for. OpenAI's form is of the content, which is empty."""
    if chat.structured_outputs is not None:
        message = "structured_outputs excludes a tool_choice that demands a call"
        return Invalid(message, "structured_outputs")
    if chat.min_tokens:  # a call ends where it ends; to go on would be to call again
        return Invalid("min_tokens excludes a tool_choice that demands a call", "min_tokens")
    return None


# What one role alone may have: no template shows it of another.
_OWNERS = {
    "tool_calls": "assistant",
    "reasoning_content": "assistant",
    "reasoning": "assistant",
    "annotations": "assistant",
    "tool_call_id": "tool",
}


def _at_fault(message: Message) -> tuple[str, str] | None:
    """What is wrong with a message, and the field that is at fault."""
    if message.refusal is not None:
        return "`refusal` is not supported in messages", "refusal"
    # A plain message, of which most are, has none of them.
    extra = message.tool_calls or message.reasoning_content or message.reasoning
    if extra or message.annotations or message.tool_call_id:
        misplaced = _misplaced(message)
        if misplaced is not None:
            return misplaced
    if message.role == "tool" and not message.tool_call_id:
        return "A message of role `tool` needs `tool_call_id`", "tool_call_id"
    if message.content is None and not (message.role == "assistant" and message.tool_calls):
        return f"A message of role `{message.role}` needs `content`", "content"
    return None


def _misplaced(message: Message) -> tuple[str, str] | None:
    for name, owner in _OWNERS.items():
        if message.role != owner and getattr(message, name):
            return f"`{name}` is only allowed in a message of role `{owner}`", name
    names = (message.reasoning, message.reasoning_content)
    if None not in names and names[0] != names[1]:
        return "`reasoning` and `reasoning_content` are one thing, and differ", "reasoning"
    return None


def _check_completion(completion: CompletionBody) -> Invalid | None:
    if completion.suffix:
        return Invalid("The model cannot fill in before a suffix", "suffix")
    if completion.best_of is not None and completion.best_of != (completion.n or 1):
        return Invalid("best_of must be n: no choices are made to be dropped", "best_of")
    if completion.max_tokens == 0 and not completion.echo:
        return Invalid("max_tokens may be 0 only with echo", "max_tokens")
    return None


def _check(body: ChatBody | CompletionBody) -> Invalid | None:
    options = body.stream_options
    if options is not None and options.include_obfuscation:
        message = "include_obfuscation is not supported: events are not padded"
        return Invalid(message, "stream_options.include_obfuscation")
    if options is not None and options.continuous_usage_stats and not options.include_usage:
        message = "continuous_usage_stats is only allowed with include_usage"
        return Invalid(message, "stream_options.continuous_usage_stats")
    if body.stream and body.prompt_logprobs is not None:
        return Invalid("prompt_logprobs is not allowed with stream", "prompt_logprobs")
    if body.stream_options is not None and not body.stream:
        return Invalid("stream_options is only allowed with stream", "stream_options")
    limit = max_tokens(body)
    if body.min_tokens and limit is not None and body.min_tokens > limit:
        return Invalid(f"min_tokens must be at most max_tokens, which is {limit}", "min_tokens")
    return None


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T | Invalid:
    """Read a body."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        fault = str(error)
    except msgspec.DecodeError as error:  # which says where, and quotes nothing
        why = _CUT_SHORT if "truncated" in str(error) else str(error).partition(": ")[2]
        return Invalid(f"The body is not valid JSON: {why}", code=INVALID_JSON)
    except UnicodeDecodeError:
        return Invalid("The body is not valid JSON: a text is not UTF-8", code=INVALID_JSON)
    except RecursionError:
        return Invalid("The body is nested too deeply", code=INVALID_JSON)
    return _read_again(decoder.type, body, fault)


def _read_again(kind: type[T], body: bytes, fault: str) -> T | Invalid:
    """Read a body as it would be without what asks for nothing among what it may not have."""
    if not fault.startswith(_UNKNOWN):
        return _explain(fault)
    whole = parse(_ANYTHING, body)
    return whole if isinstance(whole, Invalid) else read_part(whole, kind, "")


def read_part(part: object, kind: type[T], where: str) -> T | Invalid:
    """Read a part of a body, at `where`, that was left as it came; rids it of what asks nothing."""
    while True:
        try:
            return msgspec.convert(part, kind, str_keys=True)
        except msgspec.ValidationError as error:
            fault = str(error)
        # Each round rids one kind of object of what asks for nothing, and there are few kinds.
        if not fault.startswith(_UNKNOWN) or not _rid_of_nothing(part, fault):
            return _explain(fault, where)


def _rid_of_nothing(given: object, fault: str) -> bool:
    """Rid the objects, of which one is at fault, of what asks nothing; false if it is no help."""
    within, field = _WHERE.search(fault), _FIELD.search(fault)
    assert field is not None, "the fault is an unknown field"
    helps = False
    for found in _objects_at(given, within[1] if within else ""):
        nothing = [
            name
            for name, value in found.items()
            if value is None or (name == field[2] and _asks_nothing(name, value))
        ]
        helps = helps or field[2] in nothing
        for name in nothing:
            del found[name]
    return helps


def _asks_nothing(name: str, value: object) -> bool:
    neutral = ASKS_NOTHING.get(name)
    return type(value) is type(neutral) and value == neutral


def _objects_at(given: Any, path: str) -> list[dict[str, Any]]:
    """The objects at a path, in every element of each list on the way."""
    found = [given]
    for name in _STEP.findall(path):
        if name:
            found = [each[name] for each in found if isinstance(each, dict) and name in each]
        else:
            found = [item for each in found if isinstance(each, list) for item in each]
    return [each for each in found if isinstance(each, dict)]


def _explain(text: str, beginning: str = "") -> Invalid:
    where = _WHERE.search(text)
    # A value of a map has no name of its own.
    within = where[1].removesuffix("[...]") if where else ""
    path = (beginning + within).removeprefix(".")
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
_ANYTHING = msgspec.json.Decoder(Any)
