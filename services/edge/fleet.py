"""The fleet as the edge last heard of it. Only the follower's task writes here."""

import asyncio
from collections.abc import Callable, Sequence

import grpc
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from services.edge.workers import Pool, Served, Worker, merged, pools_of, served

# Workers join a scheduler that restarted within this; until then it knows less than we do.
REJOIN_S = 3.0


class Fleet:
    """Follows the scheduler's WatchFleet. Keeps what it last heard while the scheduler is down.

    A scheduler that has just started hears of its workers one by one: for `rejoin_s` seconds
    what it says is added to what was known, and only then takes its place.
    """

    def __init__(self, stub: "rpc.SchedulerServiceAsyncStub", rejoin_s: float = REJOIN_S) -> None:
        self._stub = stub
        self._rejoin_s = rejoin_s
        self.workers: Sequence[Worker] = ()
        self.pools: dict[str, Pool] = {}  # by every name of every model and adapter ever seen
        self.changed: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Follow until cancelled."""
        pauses = wait_exponential(multiplier=0.05, max=1.0)
        while True:
            retry = retry_if_exception_type(grpc.aio.AioRpcError)
            async for attempt in AsyncRetrying(wait=pauses, retry=retry):
                with attempt:
                    await self._follow()
            # The scheduler ended the stream in good order: it drains.
            await asyncio.sleep(0.1)

    async def _follow(self) -> None:
        known, heard = self.workers, self.workers
        loop = asyncio.get_running_loop()
        settled_s = loop.time() + self._rejoin_s
        settling = loop.call_at(settled_s, lambda: self.hear(heard))
        try:
            async for response in self._stub.WatchFleet(pb.WatchFleetRequest()):
                heard = tuple(_read(worker) for worker in response.workers)
                self.hear(heard if loop.time() >= settled_s else merged(known, heard))
        finally:
            settling.cancel()

    def hear(self, workers: Sequence[Worker]) -> None:
        """Take in the whole fleet. A pool without a worker stays known, but is not ready."""
        self.workers = workers
        self.pools = pools_of(workers, self.pools)
        self.changed()

    def served(self, name: str) -> Served:
        """What a name stands for that a client asks for."""
        return served(name, self.pools)

    def missing(self, models: Sequence[str]) -> list[str]:
        """Those of these models that no worker is ready for."""
        return [name for name in models if name not in self.pools or not self.pools[name].ready]


def _read(worker: pb.FleetWorker) -> Worker:
    return Worker(
        worker.worker_id,
        worker.address,
        worker.kind == pb.WORKER_KIND_GENERATE,
        tuple(worker.models),
        worker.max_model_tokens,
        worker.draining,
        tuple(worker.adapters),
    )
