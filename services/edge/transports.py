"""A connection as the cycle of one request sees it."""

import asyncio


class HeadTransport:
    """A transport as the cycle of one request sees it: an answer's head can wait for its body.

    uvicorn writes the head at once, and a write costs more than all else that an answer needs.
    """

    __slots__ = ("_head", "_holds", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._holds = False
        self._head = b""

    def hold(self) -> None:
        """Let what is written next leave with what is written after it."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """Write, or hold."""
        if self._holds:
            self._holds, self._head = False, data
        elif self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._transport.is_closing()


class PlainTransport(HeadTransport):
    """For HTTP/1.0, which knows no chunks: the body is over when the connection is.

    uvicorn writes a chunk, and its frame, at once.
    """

    __slots__ = ("_is_chunked",)

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._is_chunked = False

    def write(self, data: bytes) -> None:
        """Write, but neither frames nor that there are any."""
        if self._is_chunked:
            size, _, framed = data.partition(b"\r\n")
            data = framed[: int(size, 16)]
        elif data.endswith(_CHUNKED):
            self._is_chunked = True
            data = data.removesuffix(_CHUNKED) + b"\r\n\r\n"
        if data:
            super().write(data)


_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n\r\n"
