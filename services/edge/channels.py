"""Channels to workers for plain calls, which the pipes do not carry."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from headway.worker.v1 import worker_pb2_grpc as rpc
from services.serving import CHANNEL_OPTIONS


@dataclass(slots=True)
class _Open:
    channel: grpc.aio.Channel
    stub: "rpc.WorkerServiceAsyncStub"
    calls: int = 0


class Channels:
    """The open channels, by worker address: opened on first use, closed after their worker left."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._wanted: set[str] = set()

    @contextmanager
    def to(self, address: str) -> Iterator["rpc.WorkerServiceAsyncStub"]:
        """The worker at this address, for one call."""
        found = self._open.get(address) or self._opened(address)
        found.calls += 1
        try:
            yield found.stub
        finally:
            found.calls -= 1
            self._close_left(address)

    def keep(self, addresses: set[str]) -> None:
        """These are in the fleet; the channels to others close when their last call ends."""
        self._wanted = addresses
        for address in list(self._open):
            self._close_left(address)

    async def close(self) -> None:
        """Close them all."""
        for address in list(self._open):
            self._close(address)
        await asyncio.gather(*self._closing)

    def _opened(self, address: str) -> _Open:
        channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        opened = self._open[address] = _Open(channel, rpc.WorkerServiceStub(channel))
        return opened

    def _close_left(self, address: str) -> None:
        # To close a channel is to cancel its calls.
        if address not in self._wanted and not self._open[address].calls:
            self._close(address)

    def _close(self, address: str) -> None:
        task = asyncio.create_task(self._open.pop(address).channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
