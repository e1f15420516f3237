"""What every door for POST does first: it recognises the caller, reads the body and parses it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from services.edge.apis.openai import INVALID_JSON
from services.edge.apis.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    Compressed,
    Invalid,
    NotJson,
    Refusal,
    Unauthorized,
)
from services.edge.config import Config
from services.edge.http import APPLICATION_JSON, Receive, is_json, read_body
from services.edge.tenants import Tenants
from services.edge.visits import Visit

# Larger bodies are parsed in a thread: JSON of megabytes would stop every stream.
PARSE_ON_LOOP_BYTES = 256 * 2**10

Asked = TypeVar("Asked")


class Reception:
    """Lets requests in, or says why not."""

    def __init__(self, config: Config, tenants: Tenants) -> None:
        self._limit_bytes = config.body_limit_bytes
        self._timeout_s = config.body_timeout_s
        self._tenants = tenants

    def recognise(self, authorization: str) -> str | Unauthorized:
        """The tenant whose key the caller shows."""
        return self._tenants.recognise(authorization)

    async def read(
        self, visit: Visit, parse: Callable[[bytes], Asked | Invalid], receive: Receive
    ) -> Asked | Refusal | None:
        """What is asked, or None when the client left first. The body is not kept beside it."""
        content_type = visit.asked.get(b"content-type")
        if content_type != APPLICATION_JSON and not is_json(content_type):
            return NotJson((content_type or b"").decode("latin-1")[:128])
        body: bytes | BodyTooLarge | BodyTooSlow | None
        if visit.client.is_whole:  # nearly always; a timer costs more than all of this
            body = await read_body(receive, self._limit_bytes)
        else:
            body = await self._read_slowly(visit, receive)
        if not isinstance(body, bytes):
            return body
        asked = await _parse(parse, body)
        return _unreadable(visit, asked) if isinstance(asked, Invalid) else asked

    async def _read_slowly(
        self, visit: Visit, receive: Receive
    ) -> bytes | BodyTooLarge | BodyTooSlow | None:
        if int(visit.asked.get(b"content-length", b"0")) > self._limit_bytes:
            return BodyTooLarge(self._limit_bytes)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await read_body(receive, self._limit_bytes)
        except TimeoutError:
            return BodyTooSlow(self._timeout_s)


def _unreadable(visit: Visit, invalid: Invalid) -> Invalid | Compressed:
    """Why a body was no JSON: nobody looks at its encoding before, as nearly none has one."""
    packed = visit.asked.get(b"content-encoding", b"identity").decode("latin-1")
    is_packed = invalid.code == INVALID_JSON and packed.lower() != "identity"
    return Compressed(packed) if is_packed else invalid


async def _parse(parse: Callable[[bytes], Asked | Invalid], body: bytes) -> Asked | Invalid:
    if len(body) > PARSE_ON_LOOP_BYTES:
        return await asyncio.to_thread(parse, body)
    return parse(body)
