"""Everything that the edge answers instead of tokens, in OpenAI's form. Pure.

One vocabulary of outcomes, and one place that turns each into status, type and code.
"""

from dataclasses import dataclass, replace
from typing import assert_never

import msgspec


@dataclass(frozen=True, slots=True)
class Invalid:
    """The request is at fault. `param` names the parameter, where one is to blame."""

    message: str
    param: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The API key is missing or unknown."""

    message: str


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """Nobody serves the model."""

    model: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WrongKind:
    """The model does something else than was asked; `known` are those that do it."""

    model: str
    generates: bool
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnknownPath:
    """There is nothing at this path."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class UnknownResponse:
    """No response of that id is kept here for whoever asks."""

    response_id: str


@dataclass(frozen=True, slots=True)
class UnknownItem:
    """No item of that id is kept here for whoever asks."""

    item_id: str


@dataclass(frozen=True, slots=True)
class WrongMethod:
    """The path exists, for another method."""

    method: str
    allowed: str


@dataclass(frozen=True, slots=True)
class BodyTooLarge:
    """The body is over the limit."""

    limit_bytes: int


@dataclass(frozen=True, slots=True)
class BodyTooSlow:
    """The body, or even the head, did not arrive in time."""

    limit_s: float


@dataclass(frozen=True, slots=True)
class NotJson:
    """The body says of itself that it is something else."""

    content_type: str


@dataclass(frozen=True, slots=True)
class Compressed:
    """The body is packed, in a way that is not undone here."""

    content_encoding: str


@dataclass(frozen=True, slots=True)
class Overloaded:
    """The fleet is full; worth trying again after `retry_after_s`."""

    message: str
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A part of the system is not there; worth trying again after `retry_after_s`."""

    message: str
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream was lost and could not be resumed exactly."""

    message: str


@dataclass(frozen=True, slots=True)
class Defective:
    """This program is at fault."""


Refusal = (
    Invalid
    | Unauthorized
    | UnknownModel
    | WrongKind
    | UnknownPath
    | UnknownResponse
    | UnknownItem
    | WrongMethod
    | BodyTooLarge
    | BodyTooSlow
    | NotJson
    | Compressed
    | Overloaded
    | Unavailable
    | Broken
    | Defective
)


def too_long(context_tokens: int, found: str, param: str) -> Invalid:
    """The prompt does not fit; clients know it by these words of OpenAI's."""
    message = f"This model's maximum context length is {context_tokens} tokens. However, {found}"
    return Invalid(message, param, "context_length_exceeded")


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal in HTTP's and OpenAI's terms, and the headers beyond the usual."""

    status: int
    message: str
    kind: str
    param: str | None = None
    code: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal as HTTP: the status, the JSON body, and headers beyond the usual."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


MESSAGE_LIMIT = 4096  # characters
PARAM_LIMIT = 256

# What the client has not sent yet of its request is not waited for.
CLOSE = ((b"connection", b"close"),)


def unreadable(is_head_too_large: bool) -> Answer:
    """The answer to what is no HTTP, or has more headers than are read."""
    if is_head_too_large:
        message = "The request's headers are too large."
        return _in_openais_words(Fault(431, message, _INVALID, None, "headers_too_large"))
    message = "This is not a valid and whole HTTP request."
    return _in_openais_words(Fault(400, message, _INVALID, None, "invalid_http"))


def answer(refusal: Refusal) -> Answer:
    """The HTTP answer to a refusal, in OpenAI's words."""
    return _in_openais_words(fault(refusal))


def _in_openais_words(told: Fault) -> Answer:
    error = {
        "message": told.message,
        "type": told.kind,
        "param": told.param,
        "code": told.code,
    }
    return Answer(told.status, msgspec.json.encode({"error": error}), told.headers)


def fault(refusal: Refusal) -> Fault:
    """What a refusal comes to. What it quotes of the request may be as long as a request."""
    told = _fault(refusal)
    param = None if told.param is None else _shortened(told.param, PARAM_LIMIT)
    return replace(told, message=_shortened(told.message, MESSAGE_LIMIT), param=param)


def _shortened(text: str, limit: int) -> str:
    """A text without its middle, if it is too long: how it begins and ends says most."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def _fault(refusal: Refusal) -> Fault:
    match refusal:
        case Invalid(message, param, code):
            return Fault(400, message, _INVALID, param, code)
        case Unauthorized(message):
            return Fault(401, message, _INVALID, None, "invalid_api_key")
        case UnknownModel() | WrongKind() | UnknownPath() | UnknownResponse() | UnknownItem():
            return _unknown(refusal)
        case WrongMethod(method, allowed):
            message = f"Not allowed to {method} here; use {allowed}."
            allow = ((b"allow", allowed.encode()),)
            return Fault(405, message, _INVALID, None, "method_not_supported", allow)
        case BodyTooLarge() | BodyTooSlow() | NotJson() | Compressed():
            return _unread(refusal)
        case Overloaded(message, retry_after_s):
            later = _retry_after(retry_after_s)
            return Fault(429, message, "rate_limit_error", None, "overloaded", later)
        case Unavailable(message, retry_after_s):
            later = _retry_after(retry_after_s)
            return Fault(503, message, "server_error", None, "unavailable", later)
        case Broken(message):
            return Fault(502, message, "server_error", None, "stream_lost")
        case Defective():
            message = "The server failed at this request; its log says how."
            return Fault(500, message, "server_error", None, "internal_error", CLOSE)
        case unreachable:
            assert_never(unreachable)


_INVALID = "invalid_request_error"


def _unknown(
    refusal: UnknownModel | WrongKind | UnknownPath | UnknownResponse | UnknownItem,
) -> Fault:
    match refusal:
        case UnknownModel(model, known):
            message = f"The model `{model}` does not exist. {_known(known)}"
            return Fault(404, message, _INVALID, "model", "model_not_found")
        case WrongKind(model, generates, known):
            message = f"The model `{model}` {_does(generates)}. {_known(known)}"
            return Fault(404, message, _INVALID, "model", "model_not_found")
        case UnknownPath(method, path):
            message = f"Unknown request URL: {method} {path}."
            return Fault(404, message, _INVALID, None, "unknown_url")
        case UnknownResponse(response_id):
            message = f"Response with id '{response_id}' not found."
            return Fault(404, message, _INVALID)
        case UnknownItem(item_id):
            message = f"Item with id '{item_id}' not found."
            return Fault(404, message, _INVALID, "input")
        case unreachable:
            assert_never(unreachable)


def _unread(refusal: BodyTooLarge | BodyTooSlow | NotJson | Compressed) -> Fault:
    """What a body that was not read comes to."""
    match refusal:
        case BodyTooLarge(limit_bytes):
            message = f"The request body is larger than {limit_bytes} bytes."
            return Fault(413, message, _INVALID, None, "body_too_large")
        case BodyTooSlow(limit_s):
            message = f"The request did not arrive within {limit_s:g} s."
            return Fault(408, message, _INVALID, None, "request_timeout", CLOSE)
        case NotJson(content_type):
            message = f"Send JSON: the content type is {content_type}, not application/json."
            return Fault(415, message, _INVALID, None, "unsupported_media_type")
        case Compressed(content_encoding):
            message = f"Send the body as it is, without content-encoding {content_encoding}."
            plain = ((b"accept-encoding", b"identity"),)
            return Fault(415, message, _INVALID, None, "unsupported_content_encoding", plain)
        case unreachable:
            assert_never(unreachable)


def _does(generates: bool) -> str:
    if generates:
        return (
            "generates text and does not embed: use /v1/chat/completions, or here one that embeds"
        )
    return "embeds and does not generate: use /v1/embeddings, or here one that generates"


def _known(known: tuple[str, ...]) -> str:
    return f"Known models: {', '.join(known)}." if known else "No such model is served at present."


def _retry_after(seconds: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(seconds).encode()),)
