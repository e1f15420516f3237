"""The scheduler's peers: a worker that speaks the real `Join`, and an edge that batches."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from services.scheduler.server import SchedulerService

ALL = pb.ListWorkersRequest()


def packed(*hashes: int) -> bytes:
    """Block hashes as the wire has them."""
    return struct.pack(f"<{len(hashes)}Q", *hashes)


def place_request(request_id: str = "r", **said: Any) -> pb.PlaceRequest:
    """A request of eleven prompt tokens for model `m`."""
    usual: dict[str, Any] = {"model": "m", "prompt_tokens": 11, "max_tokens": 5, "block_size": 4}
    return pb.PlaceRequest(request_id=request_id, **(usual | said))


def item(request_id: str = "r", hashes: bytes = b"", **said: Any) -> pb.PlaceItem:
    """The same, as edges send it."""
    return pb.PlaceItem(request=place_request(request_id, **said), block_hashes=hashes)


def hello(worker_id: str, **said: Any) -> pb.Hello:
    """A worker of model `m` that runs up to eight requests."""
    usual: dict[str, Any] = {
        "address": f"{worker_id}:1",
        "epoch": 1,
        "kind": pb.WORKER_KIND_GENERATE,
        "models": ["m"],
        "block_size": 4,
        "capacity_blocks": 100,
        "max_running": 8,
        "step_budget_tokens": 64,
        "max_model_tokens": 200,
    }
    return pb.Hello(worker_id=worker_id, **(usual | said))


class Worker:
    """One life of a worker."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.Join()

    async def say(self, **message: Any) -> None:
        """Send `hello`, `report` or `kv`."""
        await self.call.write(pb.JoinRequest(**message))

    async def hears(self) -> pb.JoinResponse:
        """The next message of the scheduler."""
        response: pb.JoinResponse = await self.call.read()
        return response

    async def ends(self) -> tuple[grpc.StatusCode, str]:
        """How the scheduler ends the stream. The status comes after all messages."""
        with suppress(grpc.aio.AioRpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return await self.call.code(), await self.call.details()

    async def leave(self) -> None:
        """Go without a word."""
        self.call.cancel()


class Edge:
    """One stream of batches."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.PlaceBatches()
        self._batches = 0

    async def send(self, *items: pb.PlaceItem, **more: Any) -> int:
        """Send a batch; its number."""
        self._batches += 1
        message = pb.PlaceBatchesRequest(batch=self._batches, items=items, **more)
        await self.call.write(message)
        return self._batches

    async def hears(self) -> pb.PlaceBatchesResponse:
        """The next message of the scheduler."""
        response: pb.PlaceBatchesResponse = await self.call.read()
        return response

    async def asks(self, *items: pb.PlaceItem, **more: Any) -> dict[str, pb.PlaceResult]:
        """Send a batch; the results that come with its acknowledgement, by id."""
        batch = await self.send(*items, **more)
        response = await self.hears()
        assert response.batch == batch
        return {result.request_id: result for result in response.results}


@dataclass(frozen=True)
class Running:
    """A scheduler that runs, and how to reach it."""

    service: SchedulerService
    channel: grpc.aio.Channel
    registry: CollectorRegistry

    @property
    def stub(self) -> Any:
        """Calls the scheduler."""
        return rpc.SchedulerServiceStub(self.channel)

    async def joined(self, worker_id: str, **said: Any) -> Worker:
        """A worker that was welcomed."""
        worker = Worker(self.stub)
        await worker.say(hello=hello(worker_id, **said))
        assert (await worker.hears()).HasField("welcome")
        return worker

    async def workers(self) -> dict[str, pb.WorkerStatus]:
        """The fleet by id."""
        return {one.hello.worker_id: one for one in (await self.stub.ListWorkers(ALL)).workers}

    async def until(self, seen: Callable[[dict[str, pb.WorkerStatus]], bool]) -> None:
        """Wait until the fleet looks so: what workers say is not acknowledged."""
        async with asyncio.timeout(5):
            while not seen(await self.workers()):
                pass
