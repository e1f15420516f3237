"""Which pages' scripts may call this edge from a browser. Pure.

Without any configured there is no CORS header at all, so browsers keep pages of other origins out.
Keys come in a header of the script's own, never in a cookie, so credentials are not allowed.
"""

from collections.abc import Sequence

from services.edge.http import Headers, Message, Send

ANY = "*"
MAX_AGE_S = b"600"
EXPOSED = b"retry-after, request-id, x-request-id"


class Cors:
    """The origins that may call."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_open = ANY in origins
        self.is_configured = bool(origins)

    def headers(self, asked: dict[bytes, bytes]) -> Headers:
        """What an answer to these request headers says; nothing to an origin that may not call."""
        origin = asked.get(b"origin")
        if origin is None or not (self._is_open or origin in self._origins):
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        ]

    def preflight(self, asked: dict[bytes, bytes], methods: str) -> Headers:
        """What is said before a request: the methods of its path, and any header that it wants."""
        allowed = self.headers(asked)
        if not allowed:
            return []
        wanted = asked.get(b"access-control-request-headers")
        return [
            *allowed,
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-max-age", MAX_AGE_S),
            *([] if wanted is None else [(b"access-control-allow-headers", wanted)]),
        ]

    def sending(self, scope: Message, send: Send) -> Send:
        """A `send` that adds the headers to whatever is answered."""
        headers = self.headers(dict(scope["headers"]))
        if not headers or scope["method"] == "OPTIONS":
            return send

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        return add
