"""The worker: from deltas to a frame's bytes, for many requests a step.

It drives `FrameWriter` only: neither an engine nor the way in which it hands its outputs over is
in it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

from prometheus_client import CollectorRegistry

from bench.cost.workload import Run
from headway.worker.v1 import worker_pb2 as pb
from services.worker.choice import Piece
from services.worker.metrics import Metrics
from services.worker.pipe import FrameWriter

REQUESTS = 32
PIECES = [Piece(f" word{number}", [200 + number]) for number in range(REQUESTS)]
STARTS_NOTHING: Any = Mock(spec_set=())  # what writes the first and the last delta of a choice


@asynccontextmanager
async def token() -> AsyncIterator[Run]:
    """A step gives each of many requests a token, which leave in one frame; a unit is a token."""
    frames = 0

    async def send(frame: pb.PipeResponse) -> None:
        nonlocal frames
        frames += 1
        assert len(frame.SerializeToString()) > REQUESTS

    writer = FrameWriter(send, STARTS_NOTHING, Metrics(CollectorRegistry()))
    writing = asyncio.create_task(writer.run())
    steps = 0

    async def run(units: int) -> None:
        nonlocal steps
        for _ in range(units // REQUESTS):
            steps += 1
            for number, piece in enumerate(PIECES):
                writer.put(number, 0, piece, None)
            await asyncio.sleep(0)

    yield run
    await asyncio.sleep(0)
    writer.close()
    await writing
    assert frames == steps
