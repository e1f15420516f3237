"""Answers read by the SDKs' own types, to the letter: nothing lacks, nothing else is there."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from openai.types import Completion, CompletionChoice, CreateEmbeddingResponse, Embedding, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion_choice import Logprobs
from openai.types.responses import (
    Response,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseStreamEvent,
)
from openai.types.shared import ErrorObject
from pydantic import BaseModel, ConfigDict, TypeAdapter

# Fields that no SDK knows, by the field that they are in: Headway's own and vLLM's, where docs/
# promises them. `store` is in OpenAI's own responses, though not in its type.
EXTENSIONS = frozenset(
    {
        "headway",
        "response.headway",
        "store",
        "response.store",
        "max_model_len",
        "data.max_model_len",
        "choices.message.reasoning",
        "choices.delta.reasoning",
        "choices.message.reasoning_content",
        "choices.delta.reasoning_content",
        "choices.stop_reason",
        "data.root",
        "data.parent",
        "root",
        "parent",
        "prompt_logprobs",
        "choices.prompt_logprobs",
        "logprobs.bytes",
        "top_logprobs.bytes",
    }
)


class EchoedLogprobs(Logprobs):
    """A prompt's first token has none, which the API says and the SDK's type does not."""

    token_logprobs: list[float | None] | None = None  # type: ignore[assignment]
    top_logprobs: list[dict[str, float] | None] | None = None  # type: ignore[assignment]


class AnyChoice(CompletionChoice):
    """Of a completion or its stream, whose choices have no reason before their end."""

    finish_reason: Literal["stop", "length"] | None  # type: ignore[assignment]
    logprobs: EchoedLogprobs | None = None


class AnyCompletion(Completion):
    """A completion or an event of its stream."""

    choices: list[AnyChoice]  # type: ignore[assignment]


class EncodedEmbedding(Embedding):
    """A vector as base64, which the SDK decodes before it has a type."""

    embedding: str  # type: ignore[assignment]


class EncodedEmbeddings(CreateEmbeddingResponse):
    """Vectors as base64."""

    data: list[EncodedEmbedding]  # type: ignore[assignment]


class ModelList(BaseModel):
    """What the SDK reads page by page."""

    model_config = ConfigDict(extra="forbid")
    object: Literal["list"]
    data: list[Model]


class OpenAIError(BaseModel):
    """The body of an error; the SDK takes the object out of it."""

    model_config = ConfigDict(extra="forbid")
    error: ErrorObject


class DoneArguments(ResponseFunctionCallArgumentsDoneEvent):
    """The end of a call, with the name that Node's SDK has in its type and Python's has not."""

    name: str


class Ping(BaseModel):
    """An event of Anthropic's that the SDK passes over."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["ping"]


def _by_type(union: Any) -> dict[str, Any]:
    """The types of events, by what each says that it is."""
    while get_origin(union) is Annotated:
        union = get_args(union)[0]
    kinds = [each for each in get_args(union) if "type" in getattr(each, "model_fields", {})]
    return {name: kind for kind in kinds for name in get_args(kind.model_fields["type"].annotation)}


BODIES: Mapping[str, Any] = {
    "/v1/chat/completions": ChatCompletion,
    "/v1/completions": AnyCompletion,
    "/v1/responses": Response,
    "/v1/messages": Message,
    "/v1/messages/count_tokens": MessageTokensCount,
    "/v1/embeddings": CreateEmbeddingResponse,
}
_CHUNKS: Mapping[str, Any] = {
    "/v1/chat/completions": ChatCompletionChunk,
    "/v1/completions": AnyCompletion,
}
_EVENTS: Mapping[str, Mapping[str, Any]] = {
    "/v1/responses": {
        **_by_type(ResponseStreamEvent),
        "response.function_call_arguments.done": DoneArguments,
    },
    "/v1/messages": {**_by_type(RawMessageStreamEvent), "ping": Ping},
}
ERRORS: Mapping[bool, Any] = {False: OpenAIError, True: ErrorResponse}  # is it Anthropic's?


def read(kind: Any, text: str) -> Any:
    """JSON text of a type of an SDK, as plain values."""
    value = TypeAdapter(kind).validate_json(text, strict=True)
    unknown = set(_unknown(value, "")) - EXTENSIONS
    assert not unknown, f"fields that {kind} does not know: {sorted(unknown)} in {text}"
    return json.loads(text)


def read_body(path: str, text: str) -> Any:
    """The body of an answer to a request of this path."""
    return read(BODIES[path], text)


def read_stream(path: str, text: str) -> list[Any]:
    """The events of a stream that ended well, but for `[DONE]`."""
    *events, last = text.split("\n\n")
    assert last == ""
    if path != "/v1/messages":
        assert events.pop() == "data: [DONE]"
    if path in _CHUNKS:
        return [read(_CHUNKS[path], event.removeprefix("data: ")) for event in events]
    return [_read_event(_EVENTS[path], event) for event in events]


def _read_event(kinds: Mapping[str, Any], event: str) -> Any:
    name, data = event.removeprefix("event: ").split("\ndata: ")
    value = read(kinds[name], data)
    assert value["type"] == name
    return value


def _unknown(value: object, within: str) -> Iterator[str]:
    """Fields that a value has beyond its type."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or ():
            yield f"{within}.{name}".removeprefix(".")
        for name, inner in value:
            yield from _unknown(inner, name)
    elif isinstance(value, list):
        for each in value:
            yield from _unknown(each, within)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _unknown(each, within)
