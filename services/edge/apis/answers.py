"""What the doors answer with 200, and what a refusal looks like, as types for openapi.py. Pure.

The answers are written as bytes elsewhere, by hand where that is faster: tests compare.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class WhatIsWrong(Struct):
    """What was wrong, in OpenAI's words. `param` names the parameter at fault."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class Error(Struct):
    """OpenAI's error."""

    error: WhatIsWrong


class AnthropicsReason(Struct):
    """What was wrong, in Anthropic's words."""

    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "not_found_error",
        "request_too_large",
        "overloaded_error",
        "api_error",
    ]
    message: str


class AnthropicsError(Struct):
    """Anthropic's error."""

    type: Literal["error"]
    error: AnthropicsReason


class CachedTokens(Struct):
    """Of the prompt's tokens, those that a cache had."""

    cached_tokens: int


class Usage(Struct):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class UsageOfInputs(Struct):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class CalledFunction(Struct):
    """A function and its arguments, as JSON text."""

    name: str
    arguments: str


class Called(Struct):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Answered(Struct):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[Called] | UnsetType = UNSET


Reason = Literal["stop", "length", "tool_calls"]


class ChatChoice(Struct):
    """One of the answers."""

    index: int
    message: Answered
    logprobs: dict[str, Any] | None
    finish_reason: Reason


class ChatCompletion(Struct):
    """A chat's answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(Struct):
    """One of the continuations."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Reason


class TextCompletion(Struct):
    """What goes on after the prompts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class UsageOfResponse(Struct):
    """Tokens read and written, as the Responses API counts them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Response(Struct):
    """A response: its items, and what was asked."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    usage: UsageOfResponse
    previous_response_id: str | None


class InputItems(Struct):
    """A page of what a response answered."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(Struct):
    """A response that is no longer kept."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class UsageOfMessage(Struct):
    """Tokens read and written, as Anthropic counts them."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnsweredMessage(Struct):
    """A message: its blocks, and why it ended."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: UsageOfMessage


class Counted(Struct):
    """How many tokens a message would read."""

    input_tokens: int


class Embedding(Struct):
    """The vector of an input: numbers, or their bytes in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(Struct):
    """The vectors of all inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: UsageOfInputs


class RankedText(Struct):
    """A document as it was given."""

    text: str


class Ranked(Struct):
    """How relevant a document is."""

    index: int
    relevance_score: float
    document: RankedText | UnsetType = UNSET


class Ranking(Struct):
    """The documents, the most relevant first."""

    id: str
    results: list[Ranked]
    model: str
    usage: UsageOfInputs


class Score(Struct):
    """How alike two texts are."""

    object: Literal["score"]
    index: int
    score: float


class Scores(Struct):
    """How alike the texts of each pair are."""

    id: str
    object: Literal["list"]
    data: list[Score]
    model: str
    usage: UsageOfInputs


class Tokenized(Struct):
    """The ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(Struct):
    """The text of ids."""

    prompt: str


class Model(Struct):
    """A model, or an adapter of one: its `parent`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int


class Models(Struct):
    """The models that are served."""

    object: Literal["list"]
    data: list[Model]


class Version(Struct):
    """What runs here."""

    version: str


class State(Struct):
    """How it is."""

    status: Literal["ok", "ready"]
