"""What is kept of each request that is for no model: it is counted, and its answer has an id."""

from services.edge import metrics, request_ids
from services.edge.apis.refusals import Refusal, answer
from services.edge.doors import Door, Enter
from services.edge.http import JSON, Message, Receive, Send, send_answer, send_body


def glanced(endpoint: str, enter: Enter, *taken: str) -> Door:
    """A door that is no model's."""

    async def enter_noted(scope: Message, receive: Receive, send: Send) -> None:
        await enter(scope, receive, noting(endpoint, scope, send))

    return Door(taken, enter_noted, endpoint)


def noting(endpoint: str, scope: Message, send: Send) -> Send:
    """A `send` that counts the answer and names it."""

    async def note(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = request_ids.header(dict(scope["headers"]), request_ids.unique())
            message["headers"] = [*message["headers"], named]
            metrics.requests.labels(endpoint, message["status"]).inc()
        await send(message)

    return note


async def tell(send: Send, found: bytes | Refusal) -> None:
    """Answer with what was found, which is JSON, or with why there is nothing."""
    if isinstance(found, bytes):
        await send_body(send, 200, found, [JSON])
    else:
        await send_answer(send, answer(found), [])
