"""gRPC's Python interface without gRPC: bytes go in and come out, in this process and turn.

Messages are serialised and parsed as gRPC would have it done, so a service is driven by the
contract in protos/ and by nothing else. What is left out is gRPC's own work.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Arriving(Generic[T]):
    """What comes by one stream, in order."""

    def __init__(self) -> None:
        self._arrived: deque[T] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    def put(self, each: T) -> None:
        """Let this arrive."""
        self._arrived.append(each)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def next(self) -> T:
        """Wait for what comes next."""
        while not self._arrived:
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._arrived.popleft()

    async def dealt_with(self) -> None:
        """Wait until the reader asks for more than has arrived."""
        if self._wanted is None or self._wanted.done():
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle


class Peer(Protocol):
    """The other side of a channel."""

    def opened(self, call: "Call") -> None:
        """A stream begins."""

    def asked(self, call: "Call", request: bytes) -> None:
        """A message came; what `call.arriving.put` gets is answered."""


class Call:
    """A client's stream. As much of `grpc.aio` as the services use."""

    def __init__(
        self,
        method: str,
        peer: Peer,
        write: Callable[[Any], bytes] | None,
        read: Callable[[bytes], Any] | None,
    ) -> None:
        self.method = method.rpartition("/")[2]
        self.arriving: Arriving[bytes] = Arriving()
        self._peer = peer
        self._write = write
        self._read = read
        peer.opened(self)

    async def wait_for_connection(self) -> None:
        """It is there."""

    async def write(self, message: Any) -> None:
        """Send a message."""
        self._peer.asked(self, message if self._write is None else self._write(message))

    async def read(self) -> Any:
        """The next message."""
        arrived = await self.arriving.next()
        return arrived if self._read is None else self._read(arrived)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            yield await self.read()

    def cancel(self) -> bool:
        """End it."""
        return True


class Channel:
    """A channel to one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        **_: Any,
    ) -> Callable[..., Call]:
        """How to begin a call."""

        def begin(*_: Any, **__: Any) -> Call:
            return Call(method, self._peer, request_serializer, response_deserializer)

        return begin

    unary_unary = unary_stream = stream_unary = stream_stream

    async def close(self) -> None:
        """End it."""

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Context(Generic[T]):
    """A server's side of one stream, for a servicer: its requests, and what it writes."""

    def __init__(self, read: Callable[[bytes], T]) -> None:
        self.arriving: Arriving[bytes] = Arriving()
        self.written = 0
        """Bytes of the last message."""
        self._read = read

    async def requests(self) -> AsyncIterator[T]:
        """What the client sends."""
        while True:
            yield self._read(await self.arriving.next())

    async def read(self) -> T:
        """The same, one by one."""
        return self._read(await self.arriving.next())

    async def write(self, message: Any) -> None:
        """Send a message."""
        self.written = len(message.SerializeToString())


def packed(messages: Iterable[Any]) -> list[bytes]:
    """As bytes."""
    return [message.SerializeToString() for message in messages]
