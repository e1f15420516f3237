"""A real scheduler process with a fleet of workers that only talk, and a client that batches."""

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING

import grpc

from bench.warm import BLOCK_TOKENS, MAX_TOKENS, MODEL, PROMPT_TOKENS, Blocks
from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from services.edge.fleet import Fleet
from services.edge.placing import Placed, Placer
from services.serving import CHANNEL_OPTIONS

if TYPE_CHECKING:  # the stubs have it, the generated code does not
    from headway.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceAsyncStub

SHOWN_S = 60.0
"""The fleet has joined, with all that it caches, within this."""
COMPLETED = pb.FINISH_OUTCOME_COMPLETED


@dataclass(frozen=True, slots=True)
class Settings:
    """A fleet, and how often each of its workers has to report."""

    workers: int
    seed: int
    heartbeat_ms: int


@dataclass(slots=True)
class Run:
    """What a run came to. A placement's answer is timed from when its batch left."""

    placements: int
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the scheduler."""
    answered_ms: list[float] = field(default_factory=list)


class Wired:
    """A client of a scheduler process."""

    def __init__(self, stub: "SchedulerServiceAsyncStub", pid: int) -> None:
        self._stub = stub
        self._pid = pid
        self.joined_cpu_s = 0.0
        """What the scheduler has spent until its fleet had joined, its own start included."""
        self._numbers = count()

    async def until_joined(self, workers: int) -> None:
        """Wait until the scheduler knows so many workers, and what they cache."""
        deadline_s = time.monotonic() + SHOWN_S
        while time.monotonic() < deadline_s:
            # Rarely: a list of a thousand workers is work too.
            await asyncio.sleep(0.5)
            listed = await self._stub.ListWorkers(pb.ListWorkersRequest(), wait_for_ready=True)
            known = [each for each in listed.workers if each.HasField("report")]
            if len(known) == workers and all(each.cached_blocks for each in known):
                self.joined_cpu_s = cpu_s(self._pid)
                return
        raise TimeoutError(f"{workers} workers have not joined in {SHOWN_S:g} s")

    async def idle_cores(self, seconds: float) -> float:
        """What the scheduler takes while nobody asks, in cores."""
        before_s = cpu_s(self._pid)
        await asyncio.sleep(seconds)
        return (cpu_s(self._pid) - before_s) / seconds

    async def drive(self, prompts: Sequence[Blocks], batch: int) -> Run:
        """Batches of one size, one after the other; each brings the ends of the one before."""
        items = self._items(prompts)
        run = Run(len(items))
        call = self._stub.PlaceBatches()
        ended: list[pb.FinishRequest] = []
        batches = [items[at : at + batch] for at in range(0, len(items), batch)]
        with self._measured(run):
            for number, asked in enumerate(batches, 1):
                sent_s = time.perf_counter()
                message = pb.PlaceBatchesRequest(batch=number, items=asked, finished=ended)
                await call.write(message)
                ended = [_end(request_id) for request_id in await _answers(call, number)]
                run.answered_ms += [(time.perf_counter() - sent_s) * 1e3] * len(ended)
        await call.done_writing()
        call.cancel()
        assert len(run.answered_ms) == len(items), "some were not placed at once"
        return run

    async def drive_as_edge(self, prompts: Sequence[Blocks], clients: int) -> Run:
        """So many requests at once, through the edge's own placer."""
        placer = Placer(self._stub, Fleet(self._stub))
        talking = asyncio.create_task(placer.conversation.run())
        run = Run(len(prompts))
        waiting = iter(self._items(prompts))
        try:
            with self._measured(run):
                async with asyncio.TaskGroup() as group:
                    for _ in range(clients):
                        group.create_task(_ask(placer, waiting, run))
        finally:
            talking.cancel()
            await asyncio.wait({talking})
        return run

    def _items(self, prompts: Sequence[Blocks]) -> list[pb.PlaceItem]:
        return [_item(next(self._numbers), blocks) for blocks in prompts]

    @contextmanager
    def _measured(self, run: Run) -> Iterator[None]:
        cpu_before_s, begun_s = cpu_s(self._pid), time.perf_counter()
        yield
        run.wall_s = time.perf_counter() - begun_s
        run.cpu_s = cpu_s(self._pid) - cpu_before_s


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def system(settings: Settings) -> AsyncIterator[Wired]:
    """A scheduler, and a fleet that has joined it."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "SCHEDULER_LISTEN": address,
        "SCHEDULER_HEARTBEAT_MS": str(settings.heartbeat_ms),
        "SCHEDULER_WORKER_TTL_S": str(max(10.0, settings.heartbeat_ms / 100)),
    }
    fleet = ("--scheduler", address, "--workers", settings.workers, "--seed", settings.seed)
    async with (
        _process("services.scheduler", environment) as scheduler,
        _process("bench.joined", {}, *fleet),
        grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
    ):
        wired = Wired(rpc.SchedulerServiceStub(channel), scheduler.pid)
        await wired.until_joined(settings.workers)
        yield wired


@asynccontextmanager
async def _process(
    module: str, environment: dict[str, str], *arguments: object
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        env={**os.environ, **environment},
        stderr=DEVNULL,  # the scheduler logs each worker that joins
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _ask(placer: Placer, waiting: Iterator[pb.PlaceItem], run: Run) -> None:
    for item in waiting:
        asked_s = time.perf_counter()
        placed = await placer.place(item)
        run.answered_ms.append((time.perf_counter() - asked_s) * 1e3)
        assert isinstance(placed, Placed)
        placer.finish(placed, _end(item.request.request_id))


async def _answers(
    call: "grpc.aio.StreamStreamCall[pb.PlaceBatchesRequest, pb.PlaceBatchesResponse]", batch: int
) -> list[str]:
    while True:
        response = await call.read()
        assert isinstance(response, pb.PlaceBatchesResponse), "the scheduler ended the stream"
        if response.batch == batch:
            return [each.request_id for each in response.results if each.HasField("placed")]


def _item(number: int, blocks: Blocks) -> pb.PlaceItem:
    request = pb.PlaceRequest(
        request_id=f"{number:032x}",
        model=MODEL,
        prompt_tokens=PROMPT_TOKENS,
        max_tokens=MAX_TOKENS,
        block_size=BLOCK_TOKENS,
        tenant=f"tenant-{number % 16}",
    )
    return pb.PlaceItem(request=request, block_hashes=pack(f"<{len(blocks)}Q", *blocks))


def _end(request_id: str) -> pb.FinishRequest:
    return pb.FinishRequest(
        request_id=request_id,
        completion_tokens=MAX_TOKENS,
        outcome=COMPLETED,
        actual_ttft_ms=100.0,
    )


def cpu_s(pid: int) -> float:
    """CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = islice(fields, 11, 13)
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
