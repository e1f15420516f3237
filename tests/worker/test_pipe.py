"""Frames: what one turn of the loop brought, and no more than fits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from services.worker.choice import Piece
from services.worker.identity import Identity
from services.worker.pipe import FRAME_LIMIT, FrameWriter
from services.worker.requests import Failure, FailureKind
from services.worker.stages import FirstTokenTimes
from services.worker.text import TokenBytes
from services.worker.wire import DeltaWriter
from services.worker.worker import Delta, Started

DELTA = Delta(0, Piece("a", [1]), None)


class Edge:
    """Takes frames, one at a time, when it is let."""

    def __init__(self) -> None:
        self.frames: list[pb.PipeResponse] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def take(self, frame: pb.PipeResponse) -> None:
        await self.reads.wait()
        self.frames.append(frame)


@pytest.fixture
def deltas(tokenizer: Tokenizer) -> DeltaWriter:
    identity = Identity(worker_id="w", address="", kind="generate", models=("m",), epoch=7)
    return DeltaWriter(TokenBytes(tokenizer), identity)


@asynccontextmanager
async def writing(edge: Edge, deltas: DeltaWriter) -> AsyncIterator[FrameWriter]:
    frames = FrameWriter(edge.take, deltas)
    task = asyncio.create_task(frames.run())
    yield frames
    frames.close()
    edge.reads.set()
    await task


async def test_one_turn_is_one_frame(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        await asyncio.gather(*(frames.put(number, DELTA) for number in range(5)))
    assert [list(frame.plain.requests) for frame in edge.frames] == [[0, 1, 2, 3, 4]]
    assert list(edge.frames[0].plain.texts) == ["a"] * 5
    assert list(edge.frames[0].plain.token_ids) == [b"\1\0\0\0"] * 5


async def test_nothing_plain_overtakes_its_requests_deltas(deltas: DeltaWriter) -> None:
    edge = Edge()
    started = Started(3, FirstTokenTimes(0.0, 0.0, 0.0, 0.0), ())
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        await frames.put(0, DELTA)
        await asyncio.sleep(0)  # that one is leaving
        await frames.put(1, Delta(0, Piece("a", [1]), started))
        await frames.put(1, Delta(0, Piece("b", [2]), None))
        await frames.put(2, DELTA)
        edge.reads.set()
    _, frame = edge.frames
    assert [(delta.request, delta.text) for delta in frame.deltas] == [(1, "a"), (1, "b")]
    assert list(frame.plain.requests) == [2]


async def test_what_comes_while_a_frame_leaves_is_the_next_frame(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        for number in range(4):
            await frames.put(number, DELTA)
            await asyncio.sleep(0)
        edge.reads.set()
    assert [len(frame.plain.requests) for frame in edge.frames] == [1, 3]


async def test_an_edge_that_does_not_read_stalls_its_own_requests(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        await frames.put(0, DELTA)
        await asyncio.sleep(0)  # that one is leaving
        for _ in range(FRAME_LIMIT):
            await frames.put(0, DELTA)
        waiting = asyncio.create_task(frames.put(1, DELTA))
        _, pending = await asyncio.wait({waiting}, timeout=0.01)
        assert pending == {waiting}
        edge.reads.set()
        await waiting
    assert [len(frame.plain.requests) for frame in edge.frames] == [1, FRAME_LIMIT, 1]


async def test_stages_end_when_the_frame_leaves(deltas: DeltaWriter) -> None:
    edge = Edge()
    started = Started(3, FirstTokenTimes(0.0, 0.0, 0.0, 0.0), ())
    async with writing(edge, deltas) as frames:
        await frames.put(1, Delta(0, Piece("a", [1]), started))
    told = edge.frames[0].deltas[0].started
    assert (told.cached_tokens, told.epoch) == (3, 7)
    assert told.timings.worker_egress_us > 0  # the clock did not begin at this test


async def test_a_failure_says_which_parameter(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        await frames.put_failure(4, Failure(FailureKind.INVALID, "no", "top_p"))
    (delta,) = edge.frames[0].deltas
    assert delta.request == 4
    assert delta.failed == pb.Failed(
        reason=pb.FAILURE_REASON_INVALID, message="no", parameter="top_p"
    )
