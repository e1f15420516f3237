"""The client's side of one request: uvicorn's connection, as the fast lane may use it.

ASGI cannot write a part of a body without a coroutine, nor tell that the client left without a
task that waits for it. uvicorn takes a protocol of one's own, so this one puts a Client beside
each request, which does both. It changes none of uvicorn's state but the transport that a request
writes to: the start and the last part of every answer go through ASGI.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.edge import metrics, request_ids
from services.edge.apis.refusals import CLOSE, Answer, BodyTooSlow, answer, unreadable
from services.edge.transports import HeadTransport, PlainTransport

LAST_CALL_S = 0.3
HEAD_TICKS = 30  # seconds in which a request's head must arrive
SILENT_TICKS = 75  # seconds that a connection may be there without any request
HEAD_LIMIT_BYTES = 64 * 2**10  # the request line and the headers

CLIENT = "headway.client"  # the extension's name in an ASGI scope


class Client:
    """Whoever asked, for one request."""

    __slots__ = ("_flow", "_has_left", "_left", "_write", "hold_head", "is_whole", "takes_chunks")

    def __init__(
        self,
        flow: FlowControl,
        transport: asyncio.Transport,
        head: HeadTransport,
        http_version: str,
    ) -> None:
        self._flow = flow
        self._write = transport.write
        self.hold_head = head.hold  # the body must follow, and not be empty
        self._has_left = False
        self._left: Callable[[], None] | None = None
        self.takes_chunks = http_version == "1.1"
        self.is_whole = False  # all of the request's body has arrived

    def write(self, body: bytes) -> bool:
        """Send a part of a chunked body that has begun; false if it is read too slowly, or left."""
        if self._flow.write_paused or self._has_left:
            return False
        self._write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def watch(self, left: Callable[[], None]) -> None:
        """Call `left` when the client leaves, at once if it has left already."""
        self._flow.resume_reading()  # a large body paused it; who does not read sees no end
        self._left = left
        if self._has_left:
            left()

    def unwatch(self) -> None:
        """Its answer is over: whether it leaves now is nobody's concern."""
        self._left = None

    def lost(self) -> None:
        """The connection ended."""
        self._has_left = True
        if self._left is not None:
            self._left()


class HeadTooLarge(Exception):
    """A request's head is over the limit."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a Client in the scope of each request, as an extension."""

    # Slots: with two attributes more than uvicorn's own, Python would no longer share the keys of
    # the instances' dictionaries, and each connection would take 1.3 kB more.
    __slots__ = (
        "_before",
        "_clients",
        "_fed_bytes",
        "_head_bytes",
        "_in_head",
        "_is_last_call",
        "_ticks",
    )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin without a request."""
        super().connection_made(transport)
        self._clients: list[Client] = []  # several where requests are pipelined
        self._is_last_call = False
        self._in_head = True
        self._fed_bytes = 0  # just now, since the last request's end
        self._head_bytes = 0  # of earlier feeds
        self._before: object = None  # the last request that had come when a head began
        self._ticks = 0  # since then

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, but no endless head: httptools has no limit of its own."""
        self._fed_bytes = len(data)
        HttpToolsProtocol.data_received(self, data)  # `super()` costs as much as all else here
        if self._in_head:
            self._head_bytes += self._fed_bytes
            if self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, as OpenAI would write it; uvicorn's `msg` is plain text."""
        if self._owes_answers:
            self.cycle.keep_alive = False  # first what was asked before, and then nothing more
        elif self._has_answered_early:
            self.transport.close()
        else:
            self._refuse(unreadable(self._head_bytes > HEAD_LIMIT_BYTES))

    @property
    def _owes_answers(self) -> bool:
        """Whether a request that is whole has no whole answer yet."""
        return not self._is_idle and (bool(self.pipeline) or self._clients[-1].is_whole)

    @property
    def _has_answered_early(self) -> bool:
        """Whether a request was refused before it was whole."""
        return self._is_idle and bool(self._clients) and not self._clients[-1].is_whole

    def _refuse(self, refused: Answer) -> None:
        metrics.requests.labels(metrics.NOWHERE, refused.status).inc()
        headers = (
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(refused.body)),
            request_ids.header({}, request_ids.unique()),
            *CLOSE,
        )
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refused.status] + head + b"\r\n" + refused.body)
        self.transport.close()

    def eof_received(self) -> None:
        """Answer what ended before it was whole; its client may well still read."""
        if not self._in_head or self._head_bytes:
            self.send_400_response("")

    def tick(self) -> None:
        """Lose patience, as seconds go by, with a head that does not come."""
        # Between requests uvicorn keeps the time itself.
        is_between = bool(self._clients) and not self._head_bytes and not self._has_answered_early
        if not self._is_idle or is_between or self.cycle is not self._before:
            self._before, self._ticks = self.cycle, 0
            return
        self._ticks += 1
        if self._head_bytes and self._ticks > HEAD_TICKS:
            self._refuse(answer(BodyTooSlow(HEAD_TICKS)))
        elif self._ticks > SILENT_TICKS:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Add the client to the request that uvicorn just made, whose task has not begun."""
        self._in_head = False
        if self._head_bytes + self._fed_bytes > HEAD_LIMIT_BYTES:
            self._measure_head()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is before:
            return
        if before is None or before.response_complete:
            self._clients.clear()
        is_old = self.scope["http_version"] == "1.0"
        head = PlainTransport(self.transport) if is_old else HeadTransport(self.transport)
        self.cycle.transport = head  # type: ignore[assignment]
        client = Client(self.flow, self.transport, head, self.scope["http_version"])
        self._clients.append(client)
        self.scope["extensions"] = {CLIENT: client}  # type: ignore[dict-item]
        if self._is_last_call:
            self.cycle.keep_alive = False

    def _measure_head(self) -> None:
        """The body may have come with the head: count. What is raised ends in a 431."""
        self._head_bytes = len(self.url) + sum(
            len(name) + len(value) for name, value in self.headers
        )
        if self._head_bytes > HEAD_LIMIT_BYTES:
            raise HeadTooLarge

    def on_message_complete(self) -> None:
        """Note that the body is whole; a head comes next."""
        HttpToolsProtocol.on_message_complete(self)
        self._in_head = True
        self._head_bytes = self._fed_bytes = 0
        if self._clients:
            self._clients[-1].is_whole = True

    def shutdown(self) -> None:
        """The server closes: answer what was asked, or is on its way, and nothing after that."""
        self._is_last_call = True
        if self._is_idle:
            # A request may lie unread in the socket; to close it would reset the client.
            self.loop.call_later(LAST_CALL_S, self._close_if_idle)
        else:
            super().shutdown()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the requests that are not answered yet."""
        super().connection_lost(exc)
        for client in self._clients:
            client.lost()
