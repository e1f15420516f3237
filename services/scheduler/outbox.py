"""What one stream still has to send. One writer a stream: gRPC allows no two at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

M = TypeVar("M")

ROOM = 64
"""Messages that may wait for a peer that does not read, before its own are read no more."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the server ends a stream."""

    code: grpc.StatusCode
    message: str


class Outbox(Generic[M]):
    """Messages in order, then perhaps an ending."""

    def __init__(self) -> None:
        self._messages: deque[M] = deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._closed = False
        self.ending: Ending | None = None

    def put(self, message: M) -> None:
        """Send a message, soon."""
        self._messages.append(message)
        self._changed.set()
        if len(self._messages) >= ROOM:
            self._has_room.clear()

    def close(self, ending: Ending | None = None) -> None:
        """End the stream after what is in here. The first ending counts."""
        if not self._closed:
            self._closed = True
            self.ending = ending
            self._changed.set()

    async def room(self) -> None:
        """Wait while the peer does not read."""
        await self._has_room.wait()

    async def __aiter__(self) -> AsyncIterator[M]:
        while True:
            while self._messages:
                yield self._messages.popleft()
            self._has_room.set()
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()
