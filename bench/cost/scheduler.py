"""The scheduler: its servicer between an edge and two workers that cache what they served.

Streams are driven as gRPC drives them, so the desk, the core and the outboxes are all in. Time
passes by the same step at each reading of the clock: what is predicted from it is then the same
in every run.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, cycle
from random import Random
from struct import pack
from typing import Any
from unittest.mock import patch

import structlog
from prometheus_client import CollectorRegistry

from bench.cost.prompts import BLOCKS, MODEL, PROMPT_TOKENS
from bench.cost.wire import Context, packed
from bench.cost.workload import Run
from headway.scheduler.v1 import scheduler_pb2 as pb
from observability.telemetry import start_telemetry
from services.scheduler.__main__ import make_service
from services.scheduler.config import Config
from services.scheduler.metrics import Metrics

BATCH = 8  # requests that are placed, and as many that ended
BATCHES = 64  # before they come again
SHARED_BLOCKS = 6  # of a prompt, which both workers cache
CACHED_BLOCKS = 4096
REPORTS = 16
KV_CHANGES = 512  # no two alike: their sequence goes on
SILENCE: Any = structlog.wrap_logger(structlog.testing.ReturnLogger())
TICK_S = 20e-6


class _Scheduler:
    """A scheduler, one edge and two workers."""

    def __init__(self) -> None:
        metrics = Metrics("predicted", CollectorRegistry())
        service = make_service(Config(), metrics, start_telemetry("scheduler", {}), SILENCE)
        self.edge = Context(pb.PlaceBatchesRequest.FromString)
        self.workers = [Context(pb.JoinRequest.FromString) for _ in range(2)]
        context: Any = self.edge
        calls: list[Any] = [service.PlaceBatches(self.edge.requests(), context)]
        for worker in self.workers:
            context = worker
            calls.append(service.Join(worker.requests(), context))
        self._tasks = [asyncio.create_task(call) for call in calls]

    async def joined(self) -> "_Scheduler":
        """Return when the workers have said what they cache and how fast they are."""
        chance = Random(1)
        for number, worker in enumerate(self.workers):
            cached = [*SHARED, *(chance.getrandbits(64) for _ in range(CACHED_BLOCKS))]
            snapshot = pb.KvChange(snapshot=True, stored=pack(f"<{len(cached)}Q", *cached))
            for message in packed(
                (
                    pb.JoinRequest(hello=_hello(number)),
                    pb.JoinRequest(kv=snapshot),
                    pb.JoinRequest(report=_report(chance)),
                )
            ):
                worker.arriving.put(message)
            await worker.arriving.dealt_with()
        return self

    def close(self) -> None:
        """End all streams."""
        for task in self._tasks:
            task.cancel()


_chance = Random(0)
SHARED = [_chance.getrandbits(64) for _ in range(SHARED_BLOCKS)]


def _hello(number: int) -> pb.Hello:
    return pb.Hello(
        worker_id=f"w{number}",
        address=f"w{number}:1",
        epoch=1,
        kind=pb.WORKER_KIND_GENERATE,
        models=[MODEL],
        block_size=16,
        capacity_blocks=8192,
        max_running=256,
        step_budget_tokens=8192,
        max_model_tokens=8192,
        engine="none",
    )


def _report(chance: Random) -> pb.Report:
    prefills = [
        pb.PrefillTiming(
            request_id=f"gone {chance.getrandbits(64):016x}",
            computed_tokens=chance.randint(150, 300),
            prefill_us=chance.randint(6000, 12_000),
            decoding_requests=16,
        )
        for _ in range(4)
    ]
    return pb.Report(
        running_requests=16,
        queued_prefill_tokens=300,
        kv_usage=0.25,
        prefills=prefills,
        steps=12,
        step_time_us=240_000,
        generated_tokens=192,
        prefix_queried_tokens=1200,
        prefix_hit_tokens=384,
    )


@asynccontextmanager
async def _scheduler() -> AsyncIterator[_Scheduler]:
    with patch.object(time, "monotonic", count(1000.0, TICK_S).__next__):
        scheduler = await _Scheduler().joined()
    # What is special of a fleet that has just joined is over.
    with patch.object(time, "monotonic", count(1060.0, TICK_S).__next__):
        yield scheduler
        scheduler.close()


@asynccontextmanager
async def request() -> AsyncIterator[Run]:
    """Batches of requests to place, with the ends of those before; a unit is a request."""
    async with _scheduler() as scheduler:
        arriving = scheduler.edge.arriving
        batches = cycle(packed(_batches()))

        async def run(units: int) -> None:
            for _ in range(units // BATCH):
                arriving.put(next(batches))
                await arriving.dealt_with()

        yield run
        assert scheduler.edge.written > BATCH * len('w0:1"w0')


def _batches() -> list[pb.PlaceBatchesRequest]:
    chance = Random(2)
    ids = [[f"{chance.getrandbits(128):032x}" for _ in range(BATCH)] for _ in range(BATCHES)]
    return [
        pb.PlaceBatchesRequest(
            batch=number + 1,
            items=[_item(request_id, chance) for request_id in ids[number]],
            finished=[_end(request_id) for request_id in ids[number - 1]],
        )
        for number in range(BATCHES)
    ]


def _item(request_id: str, chance: Random) -> pb.PlaceItem:
    own = (chance.getrandbits(64) for _ in range(BLOCKS - SHARED_BLOCKS))
    request = pb.PlaceRequest(
        request_id=request_id,
        model=MODEL,
        prompt_tokens=PROMPT_TOKENS,
        max_tokens=128,
        block_size=16,
    )
    return pb.PlaceItem(request=request, block_hashes=pack(f"<{BLOCKS}Q", *SHARED, *own))


def _end(request_id: str) -> pb.FinishRequest:
    return pb.FinishRequest(
        request_id=request_id,
        completion_tokens=128,
        outcome=pb.FINISH_OUTCOME_COMPLETED,
        actual_ttft_ms=21.5,
    )


@asynccontextmanager
async def report() -> AsyncIterator[Run]:
    """Reports of workers with four prefills each; a unit is a report."""
    chance = Random(3)
    async with _scheduler() as scheduler:
        reports = cycle(packed(pb.JoinRequest(report=_report(chance)) for _ in range(REPORTS)))
        workers = cycle(scheduler.workers)

        async def run(units: int) -> None:
            for _ in range(units):
                arriving = next(workers).arriving
                arriving.put(next(reports))
                await arriving.dealt_with()

        yield run


@asynccontextmanager
async def kv_change() -> AsyncIterator[Run]:
    """A prompt's blocks stored, as many others removed; a unit is such a change."""
    async with _scheduler() as scheduler:
        arriving = scheduler.workers[0].arriving
        changes = iter(packed(_changes()))

        async def run(units: int) -> None:
            for _ in range(units):
                arriving.put(next(changes))
                await arriving.dealt_with()

        yield run


def _changes() -> list[pb.JoinRequest]:
    chance = Random(4)
    stored = [
        pack(f"<{BLOCKS}Q", *(chance.getrandbits(64) for _ in range(BLOCKS)))
        for _ in range(KV_CHANGES)
    ]
    return [
        pb.JoinRequest(
            kv=pb.KvChange(
                sequence=number + 1,
                stored=stored[number],
                removed=stored[number - 16] if number >= 16 else b"",
            )
        )
        for number in range(KV_CHANGES)
    ]
