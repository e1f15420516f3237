"""A scheduler that only listens to `Join`, in a thread: for tests of real worker processes too."""

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc
from services.blocks import read_hashes


class FakeScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Welcomes every worker, and remembers what it said."""

    def __init__(self, heartbeat_ms: int = 100) -> None:
        self.hellos: queue.Queue[pb.Hello] = queue.Queue()
        self.reports: list[pb.Report] = []
        self.changes: list[pb.KvChange] = []
        self.blocks: Counter[int] = Counter()
        self._heartbeat_ms = heartbeat_ms
        self._answers: queue.Queue[pb.JoinResponse | None] = queue.Queue()
        self._heard = threading.Condition()
        self._server: grpc.Server | None = None
        self.address = ""

    def start(self, address: str = "127.0.0.1:0") -> "FakeScheduler":
        """Listen."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        self._server.start()
        return self

    def stop(self) -> None:
        """End all streams."""
        if self._server is not None:
            self._server.stop(0).wait()

    def drain(self) -> None:
        """Tell the worker to drain."""
        self._answers.put(pb.JoinResponse(drain=pb.Drain()))

    def end_stream(self) -> None:
        """Throw the worker out of the fleet."""
        self._answers.put(None)

    def wait_for(self, condition: Any, timeout_s: float = 10.0) -> None:
        """Wait until what was heard fulfils a condition."""
        with self._heard:
            assert self._heard.wait_for(condition, timeout_s), "never heard"

    def Join(
        self, request_iterator: Iterator[pb.JoinRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.JoinResponse]:
        """Listen to one worker."""
        answers = self._answers = queue.Queue()
        # However the stream ends, this thread must: the interpreter waits for it.
        context.add_callback(lambda: answers.put(None))
        self.hellos.put(next(request_iterator).hello)
        yield pb.JoinResponse(welcome=pb.Welcome(heartbeat_ms=self._heartbeat_ms))
        threading.Thread(target=self._listen, args=(request_iterator,), daemon=True).start()
        while (answer := answers.get()) is not None:
            yield answer

    def _listen(self, messages: Iterator[pb.JoinRequest]) -> None:
        try:
            for message in messages:
                with self._heard:
                    self._note(message)
                    self._heard.notify_all()
        except grpc.RpcError:
            return  # the stream ended

    def _note(self, message: pb.JoinRequest) -> None:
        if message.HasField("report"):
            self.reports.append(message.report)
        if message.HasField("kv"):
            self.changes.append(message.kv)
            if message.kv.snapshot:
                self.blocks.clear()
            self.blocks.update(read_hashes(message.kv.stored))
            self.blocks.subtract(read_hashes(message.kv.removed))


def listening_scheduler(address: str = "127.0.0.1:0") -> FakeScheduler:
    """A scheduler that listens; whoever asked for it stops it."""
    # What it does not implement answers UNIMPLEMENTED; the stubs call that abstract.
    return FakeScheduler().start(address)  # type: ignore[abstract]
