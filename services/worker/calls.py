"""What every way in shares: admit a request, serve it, clean up behind it."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from headway.worker.v1 import worker_pb2 as pb
from services.worker.metrics import Metrics
from services.worker.relay import Put, Running
from services.worker.requests import Failure
from services.worker.spans import Spans
from services.worker.wire import DeltaWriter, Malformed, read_request
from services.worker.worker import Worker


class Calls:
    """The worker, as `Generate` and `Pipe` use it."""

    def __init__(self, worker: Worker, deltas: DeltaWriter, metrics: Metrics, spans: Spans) -> None:
        self.worker = worker
        self.deltas = deltas
        self.metrics = metrics
        self._spans = spans
        self._background: set[asyncio.Task[None]] = set()

    def admit(self, message: pb.GenerateRequest, arrived_s: float) -> Running | Failure:
        """Read and check a request; `serve` has to follow when it is admitted."""
        try:
            request = read_request(message)
        except Malformed as error:
            return error.failure
        return self.worker.admit(request, arrived_s)

    async def serve(self, running: Running, put: Put) -> Failure | None:
        """Run a request to its end. When cancelled, the engine is freed all the same."""
        try:
            return await self.worker.serve(running, put)
        except asyncio.CancelledError:
            self._spawn(self.worker.released([running]))
            raise
        finally:
            self._spans.record(running, time.monotonic())

    def abort(self, running: Sequence[Running]) -> None:
        """End requests; nobody waits for it."""
        self._spawn(self.worker.abort(running))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # A call that ends must not cancel this.
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
