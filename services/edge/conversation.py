"""A long-lived stream to another service that carries batches.

The only place where the edge holds a gRPC stream open. One task owns each stream: it writes
what gathered, hands on what arrives, and opens the stream again after it broke.
"""

import asyncio
from typing import Generic, Protocol, TypeVar, cast

import grpc
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from services.edge.gathering import Gathering

Item = TypeVar("Item")
Request = TypeVar("Request")
Response = TypeVar("Response")

BATCH_LIMIT = 256
PAUSES = wait_exponential(multiplier=0.05, max=1.0)


class Terms(Protocol[Item, Request, Response]):
    """What a conversation is about."""

    def open(self) -> "grpc.aio.StreamStreamCall[Request, Response]":
        """Start the stream."""

    def compose(self, batch: int, items: list[Item]) -> Request:
        """The message that carries these items."""

    def receive(self, response: Response) -> bool:
        """Take in an answer; true when it lets the next batch leave."""

    def lost(self) -> None:
        """The stream broke: whatever was not answered never will be."""


class StreamClosed(Exception):
    """The other side ended the stream."""


BROKEN = (grpc.aio.AioRpcError, StreamClosed)


class Conversation(Generic[Item, Request, Response]):
    """Keeps one stream open and batches onto it. `acknowledged` when batches are answered."""

    def __init__(self, terms: Terms[Item, Request, Response], *, acknowledged: bool) -> None:
        self._terms = terms
        self._acknowledged = acknowledged
        self._gathering: Gathering[Item] = Gathering(BATCH_LIMIT)
        self._wake = asyncio.Event()
        self._batch = 0
        self._connected = False
        self.is_down = False  # the last attempt to connect failed

    def put(self, item: Item) -> None:
        """Send this with the next batch."""
        self._gathering.waiting.append(item)
        self._wake.set()

    async def run(self) -> None:
        """Converse until cancelled; a broken stream is opened again after growing pauses."""
        while True:
            async for attempt in AsyncRetrying(wait=PAUSES, retry=retry_if_exception_type(BROKEN)):
                with attempt:
                    await self._converse_once()

    async def _converse_once(self) -> None:
        """Return when a stream that had connected broke; raise when none could be made."""
        self._connected = False
        try:
            await self.converse()
        except BROKEN:
            self.is_down = not self._connected
            if self.is_down:
                raise

    async def converse(self) -> None:
        """Hold one stream until it breaks. Always raises: AioRpcError or StreamClosed."""
        call = self._terms.open()
        reader = asyncio.create_task(self._read(call))
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            await call.wait_for_connection()
            self._connected = True
            self.is_down = False
            await self._write(call, reader)
            await reader
        finally:
            call.cancel()
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.exception()  # the writer may have said it first
            self._gathering = Gathering(BATCH_LIMIT)
            self._terms.lost()

    async def _write(
        self, call: "grpc.aio.StreamStreamCall[Request, Response]", reader: "asyncio.Task[None]"
    ) -> None:
        while not reader.done():
            items = self._gathering.take()
            if not items:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._batch += 1
            try:
                await call.write(self._terms.compose(self._batch, items))
            except asyncio.InvalidStateError:
                return  # the call ended between two writes; the reader knows why
            if not self._acknowledged:
                self._gathering.landed()

    async def _read(self, call: "grpc.aio.StreamStreamCall[Request, Response]") -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            # grpc types a read as message or EOF, which it does not tell apart.
            if self._terms.receive(cast(Response, response)):
                self._gathering.landed()
                self._wake.set()
        raise StreamClosed
