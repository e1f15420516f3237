"""The little of ASGI that the edge needs: read a body within a limit, send an answer."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from services.edge.apis.refusals import Answer, BodyTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

APPLICATION_JSON = b"application/json"
JSON: tuple[bytes, bytes] = (b"content-type", APPLICATION_JSON)


def is_json(content_type: bytes | None) -> bool:
    """Whether a body of this content type may be read; one that says nothing of itself may."""
    if content_type is None:
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == APPLICATION_JSON or media_type.endswith(b"+json")


async def read_body(receive: Receive, limit_bytes: int) -> bytes | BodyTooLarge | None:
    """The request's body, or None when the client left before it was whole."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            return BodyTooLarge(limit_bytes)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


async def send_body(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(body))
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def send_answer(send: Send, answer: Answer, headers: Headers) -> None:
    """Send a refusal."""
    await send_body(send, answer.status, answer.body, [JSON, *answer.headers, *headers])
