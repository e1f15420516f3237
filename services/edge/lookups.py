"""Answers that need no worker: kept responses, and counts of tokens."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec

from services.edge import wire
from services.edge.apis import Asked, Messages, bearer, key_or_bearer
from services.edge.encoding import Encoded
from services.edge.http import JSON, Message, Receive, Send, read_body, send_answer, send_body
from services.edge.messages import read_count
from services.edge.openai import ChatBody
from services.edge.refusals import (
    BodyTooLarge,
    Invalid,
    Refusal,
    Unauthorized,
    UnknownModel,
    UnknownPath,
    UnknownResponse,
    WrongMethod,
    answer,
)
from services.edge.relay import Hops
from services.edge.shelf import Shelf
from services.edge.tenants import Tenants

RESPONSES = "/v1/responses/"
COUNT_TOKENS = "/v1/messages/count_tokens"


class Lookups:
    """Reads and deletes kept responses, and counts tokens."""

    def __init__(
        self,
        hops: Hops,
        tenants: Tenants,
        shelf: Shelf,
        body_limit_bytes: int,
        name_models: Callable[[Refusal], Refusal],
    ) -> None:
        self._hops = hops
        self._tenants = tenants
        self._shelf = shelf
        self._body_limit_bytes = body_limit_bytes
        self._name_models = name_models

    def has(self, path: str) -> bool:
        """Whether something is to be looked up at this path."""
        return path == COUNT_TOKENS or path.startswith(RESPONSES)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = dict(scope["headers"])
        if scope["path"] == COUNT_TOKENS:
            await self._send(await self._count(scope["method"], asked, receive), send, counted=True)
        else:
            await self._send(self._kept(scope, asked), send, counted=False)

    async def _send(self, found: bytes | Refusal | None, send: Send, *, counted: bool) -> None:
        if found is None:
            return  # the client left
        if isinstance(found, bytes):
            await send_body(send, 200, found, [JSON])
        else:
            refused = Messages().refused(self._name_models(found)) if counted else answer(found)
            await send_answer(send, refused, [])

    def _kept(self, scope: Message, asked: Asked) -> bytes | Refusal:
        tenant = self._tenants.recognise(bearer(asked))
        if isinstance(tenant, Unauthorized):
            return tenant
        path: str = scope["path"]
        return kept(self._shelf, tenant, scope["method"], path, scope["query_string"].decode())

    async def _count(self, method: str, asked: Asked, receive: Receive) -> bytes | Refusal | None:
        if method != "POST":
            return WrongMethod(method, "POST")
        tenant = self._tenants.recognise(key_or_bearer(asked))
        if isinstance(tenant, Unauthorized):
            return tenant
        body = await read_body(receive, self._body_limit_bytes)
        if body is None or isinstance(body, BodyTooLarge):
            return body
        chat = await asyncio.to_thread(read_count, body)
        return chat if isinstance(chat, Invalid) else await self._tokens(chat)

    async def _tokens(self, chat: ChatBody) -> bytes | Refusal:
        if self._hops.fleet.is_unknown(chat.model):
            return UnknownModel(chat.model, ())
        message = wire.encode_chat(chat, self._hops.fleet.served(chat.model), "")
        encoded = await self._hops.encoders.encode(message)
        if not isinstance(encoded, Encoded):
            return encoded
        return msgspec.json.encode({"input_tokens": encoded.prompt_tokens})


def kept(shelf: Shelf, tenant: str, method: str, path: str, query: str) -> bytes | Refusal:
    """What is kept, read or taken off the shelf."""
    response_id, _, action = path.removeprefix(RESPONSES).partition("/")
    allowed = {"": ("GET", "DELETE"), "cancel": ("POST",)}.get(action)
    if allowed is None or not response_id:
        return UnknownPath(method, path)
    if method not in allowed:
        return WrongMethod(method, ", ".join(allowed))
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
