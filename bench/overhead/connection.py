"""One HTTP/1.1 connection of the load generator: it reads only what it has to.

The load shares its cores with what it measures, so a streamed token costs it a few searches in
bytes: no chunk is cut out, no event is parsed.
"""

import asyncio
import json
import time
from typing import Self, cast

from bench.overhead.figures import Answer

_TEXT, _NO_TEXT = b'"content":"', b'"content":""'
_END_OF_BODY = b"0\r\n\r\n"
_CLOSED = "the connection was closed"


def post(host: str, port: int, body: bytes) -> bytes:
    """A request for a chat, ready to be written."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """Asks one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.answer = Answer()
        """The last one asked for, as far as it has come."""
        self._rest = b""
        self._head = b""
        self._length: int | None = None  # of the body; None: it comes in chunks
        self._is_stream = False
        self._is_done = False  # the event [DONE] came
        self._asked_s = self._last_s = 0.0

    @classmethod
    async def to(cls, host: str, port: int) -> Self:
        """An open connection."""
        _, made = await asyncio.get_running_loop().create_connection(cls, host, port)
        return made

    @property
    def is_open(self) -> bool:
        """Whether another request can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, max_tokens: int) -> Answer:
        """Write the request and read its answer to the end."""
        assert self._transport is not None
        self.answer = answer = Answer()
        self._rest = self._head = b""
        self._is_done = False
        self._waiting = asyncio.get_running_loop().create_future()
        self._asked_s = time.perf_counter()
        self._transport.write(request)
        await self._waiting
        answer.e2e_s = time.perf_counter() - self._asked_s
        answer.ttft_s = answer.ttft_s or answer.e2e_s
        answer.tokens = answer.tokens or max_tokens
        return answer

    def close(self) -> None:
        """Leave, whatever still comes."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        # uvloop's transports are asyncio's in all but the class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and with it an answer that is not whole."""
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._fail(_CLOSED)

    def data_received(self, data: bytes) -> None:
        """The hot path: a part of an answer."""
        if not self._head:
            data = self._rest + data
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            self._read_head(head)
        if self._is_stream:
            self._read_events(data)
        else:
            self._read_body(data)

    def _read_head(self, head: bytes) -> None:
        self._head, self._rest = head.lower(), b""
        self.answer.status = int(head.split(b" ", 2)[1])
        _, named, after = self._head.partition(b"\r\ncontent-length:")
        self._length = int(after.partition(b"\r\n")[0]) if named else None
        self._is_stream = b"text/event-stream" in self._head

    def _read_events(self, data: bytes) -> None:
        data = self._rest + data
        # Only whole events are counted: a mark may be cut at the end of what came.
        whole = data.rfind(b"\n\n") + 2
        deltas = data.count(_TEXT, 0, whole) - data.count(_NO_TEXT, 0, whole) if whole > 1 else 0
        if deltas:
            self._count(deltas)
        is_last = b"data: [DONE]" in data
        if (is_last or not deltas) and (error := data.find(b'data: {"error"')) >= 0:
            self.answer.failure = data[error : error + 200].decode(errors="replace")
        self._is_done = self._is_done or is_last
        if data.endswith(_END_OF_BODY):
            if not self._is_done or not self.answer.deltas:
                self._fail("a stream without text or without its end")
            self._end()
        else:
            self._rest = data[whole:] if whole > 1 else data

    def _count(self, deltas: int) -> None:
        now_s, answer = time.perf_counter(), self.answer
        if answer.deltas:
            answer.gaps_s.append(now_s - self._last_s)
        else:
            answer.ttft_s = now_s - self._asked_s
        answer.deltas += deltas
        self._last_s = now_s

    def _read_body(self, data: bytes) -> None:
        self._rest += data
        if self._length is None:
            if self._rest.endswith(_END_OF_BODY):
                self._take_body(_unchunked(self._rest))
        elif len(self._rest) >= self._length:
            self._take_body(self._rest)

    def _take_body(self, body: bytes) -> None:
        if self.answer.status == 200:
            self.answer.tokens = json.loads(body)["usage"]["completion_tokens"]
            self._end()
        else:
            self._fail(f"{self.answer.status} {body[:200].decode(errors='replace')}")

    def _fail(self, reason: str) -> None:
        self.answer.failure = self.answer.failure or reason
        self._end()

    def _end(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole += body[:length]
        body = body[length + 2 :]
    return whole
