"""Everything that the edge answers instead of tokens, in OpenAI's form. Pure.

One vocabulary of outcomes, and one place that turns each into status, type and code.
"""

from dataclasses import dataclass
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
    """The body did not arrive in time."""

    limit_s: float


@dataclass(frozen=True, slots=True)
class NotJson:
    """The body says of itself that it is something else."""

    content_type: str


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


Refusal = (
    Invalid
    | Unauthorized
    | UnknownModel
    | WrongKind
    | UnknownPath
    | WrongMethod
    | BodyTooLarge
    | BodyTooSlow
    | NotJson
    | Overloaded
    | Unavailable
    | Broken
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal as HTTP: the status, the JSON body, and headers beyond the usual."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


# What the client has not sent yet of its request is not waited for.
CLOSE = ((b"connection", b"close"),)


def unreadable(is_head_too_large: bool) -> Answer:
    """The answer to what is no HTTP, or has more headers than are read."""
    if is_head_too_large:
        message = "The request's headers are too large."
        return Answer(431, _error(message, "invalid_request_error", None, "headers_too_large"))
    message = "This is not a valid HTTP request."
    return Answer(400, _error(message, "invalid_request_error", None, "invalid_http"))


def answer(refusal: Refusal) -> Answer:
    """The HTTP answer to a refusal."""
    match refusal:
        case Invalid(message, param, code):
            return Answer(400, _error(message, "invalid_request_error", param, code))
        case Unauthorized(message):
            return Answer(401, _error(message, "invalid_request_error", None, "invalid_api_key"))
        case UnknownModel() | WrongKind():
            return _no_such_model(refusal)
        case UnknownPath(method, path):
            message = f"Unknown request URL: {method} {path}."
            return Answer(404, _error(message, "invalid_request_error", None, "unknown_url"))
        case WrongMethod(method, allowed):
            body = _error(
                f"Not allowed to {method} here; use {allowed}.",
                "invalid_request_error",
                None,
                "method_not_supported",
            )
            return Answer(405, body, ((b"allow", allowed.encode()),))
        case BodyTooLarge() | BodyTooSlow() | NotJson():
            return _unread(refusal)
        case Overloaded(message, retry_after_s):
            body = _error(message, "rate_limit_error", None, "overloaded")
            return Answer(429, body, _retry_after(retry_after_s))
        case Unavailable(message, retry_after_s):
            body = _error(message, "server_error", None, "unavailable")
            return Answer(503, body, _retry_after(retry_after_s))
        case Broken(message):
            return Answer(502, _error(message, "server_error", None, "stream_lost"))
        case unreachable:
            assert_never(unreachable)


def _no_such_model(refusal: UnknownModel | WrongKind) -> Answer:
    """The HTTP answer where the model is none for the door."""
    match refusal:
        case UnknownModel(model, known):
            message = f"The model `{model}` does not exist. {_known(known)}"
        case WrongKind(model, generates, known):
            message = f"The model `{model}` {_does(generates)}. {_known(known)}"
        case unreachable:
            assert_never(unreachable)
    return Answer(404, _error(message, "invalid_request_error", "model", "model_not_found"))


def _unread(refusal: BodyTooLarge | BodyTooSlow | NotJson) -> Answer:
    """The HTTP answer to a body that was not read."""
    match refusal:
        case BodyTooLarge(limit_bytes):
            message = f"The request body is larger than {limit_bytes} bytes."
            return Answer(413, _error(message, "invalid_request_error", None, "body_too_large"))
        case BodyTooSlow(limit_s):
            message = f"The request body did not arrive within {limit_s:g} s."
            body = _error(message, "invalid_request_error", None, "request_timeout")
            return Answer(408, body, CLOSE)
        case NotJson(content_type):
            message = f"Send JSON: the content type is {content_type}, not application/json."
            body = _error(message, "invalid_request_error", None, "unsupported_media_type")
            return Answer(415, body)
        case unreachable:
            assert_never(unreachable)


def _does(generates: bool) -> str:
    if generates:
        return (
            "generates text and does not embed: use /v1/chat/completions, or here one that embeds"
        )
    return "embeds and does not generate: use /v1/embeddings, or here one that generates"


def _known(known: tuple[str, ...]) -> str:
    return f"Known models: {', '.join(known)}." if known else "No model is served at present."


def _retry_after(seconds: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(seconds).encode()),)


def _error(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error})
