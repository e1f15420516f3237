"""Answers that need no worker: kept responses, and counts of tokens."""

from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec

from services.edge import wire
from services.edge.apis.generating import Messages
from services.edge.apis.messages import read_count
from services.edge.apis.openai import ChatBody
from services.edge.apis.refusals import (
    Invalid,
    Refusal,
    Unauthorized,
    UnknownResponse,
)
from services.edge.apis.response_items import page, read_page
from services.edge.doors import Door
from services.edge.encoding import Encoded
from services.edge.fitting import misfit
from services.edge.glances import glanced, tell
from services.edge.http import Message, Receive, Send
from services.edge.inquiry import Caller, Inquiry, Reply
from services.edge.reception import Reception
from services.edge.relay import Hops
from services.edge.shelf import Shelf
from services.edge.tenants import bearer

RESPONSE = "/v1/responses/{response_id}"
CANCEL = f"{RESPONSE}/cancel"
INPUT_ITEMS = f"{RESPONSE}/input_items"


LookUp = Callable[[Shelf, str, str, str, str], bytes | Refusal]


class KeptResponses:
    """Reads and deletes kept responses."""

    def __init__(self, reception: Reception, shelf: Shelf) -> None:
        self._reception = reception
        self._shelf = shelf

    def doors(self) -> dict[str, Door]:
        """Where they are read, deleted and not cancelled."""
        return {
            RESPONSE: glanced("kept_response", self._enter, "GET", "DELETE"),
            CANCEL: glanced("cancel", self._enter, "POST"),
            INPUT_ITEMS: glanced("input_items", self._list, "GET"),
        }

    async def _enter(self, scope: Message, receive: Receive, send: Send) -> None:
        await tell(send, self._find(scope, kept))

    async def _list(self, scope: Message, receive: Receive, send: Send) -> None:
        await tell(send, self._find(scope, input_items))

    def _find(self, scope: Message, look_up: LookUp) -> bytes | Refusal:
        tenant = self._reception.recognise(bearer(dict(scope["headers"])))
        if isinstance(tenant, Unauthorized):
            return tenant
        response_id = scope["path"].split("/")[3]
        query = scope["query_string"].decode("latin-1")
        return look_up(self._shelf, tenant, scope["method"], response_id, query)


def counting(hops: Hops) -> Inquiry[ChatBody]:
    """`POST /v1/messages/count_tokens`."""

    async def count(chat: ChatBody, caller: Caller) -> Reply | Refusal:
        refusal = misfit(chat.model, hops.fleet.pools, generates=True)
        if refusal is not None:
            return refusal
        message = wire.encode_chat(chat, hops.fleet.served(chat.model), caller.traceparent)
        encoded = await hops.encoders.encode(message)
        if not isinstance(encoded, Encoded):
            return encoded
        body = msgspec.json.encode({"input_tokens": encoded.prompt_tokens})
        return Reply(body, encoded.prompt_tokens)

    messages = Messages()
    return Inquiry(
        "count_tokens", read_count, count, messages.authorization, messages.refused, generates=True
    )


def kept(shelf: Shelf, tenant: str, method: str, response_id: str, query: str) -> bytes | Refusal:
    """What is kept, read or taken off the shelf."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        return Invalid(f"Unknown or unsupported parameter: `{name}`", name, "unknown_parameter")
    if method == "DELETE" and shelf.forget(tenant, response_id):
        deleted = {"id": response_id, "object": "response", "deleted": True}
        return msgspec.json.encode(deleted)
    found = shelf.find(tenant, response_id)
    if found is None:
        return UnknownResponse(response_id)
    if method == "POST":
        return Invalid("Only a response in the background can be cancelled; it is over.")
    return found.response


def input_items(
    shelf: Shelf, tenant: str, method: str, response_id: str, query: str
) -> bytes | Refusal:
    """A page of what a kept response answered."""
    asked = read_page(query)
    if isinstance(asked, Invalid):
        return asked
    found = shelf.find(tenant, response_id)
    if found is None:
        return UnknownResponse(response_id)
    return page(found.conversation.before_the_answer(), asked)
