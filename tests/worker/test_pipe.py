"""Frames: what one turn of the loop brought, and no more than fits."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from headway.worker.v1 import worker_pb2 as pb
from services.worker.choice import Finish, FinishReason, Piece
from services.worker.engine import TokenLogprob, TokenLogprobs
from services.worker.identity import Identity
from services.worker.metrics import Metrics
from services.worker.parsing import Apart, CallDelta
from services.worker.pipe import FrameWriter
from services.worker.relay import Started
from services.worker.requests import Failure, FailureKind
from services.worker.stages import FirstTokenTimes
from services.worker.text import TokenBytes
from services.worker.wire import DeltaWriter

PIECE = Piece("a", [1])


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
async def writing(
    edge: Edge, deltas: DeltaWriter, registry: CollectorRegistry | None = None
) -> AsyncIterator[FrameWriter]:
    frames = FrameWriter(edge.take, deltas, Metrics(registry or CollectorRegistry()))
    task = asyncio.create_task(frames.run())
    yield frames
    frames.close()
    edge.reads.set()
    await task


async def test_one_turn_is_one_frame(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        for number in range(5):
            frames.put(number, 0, PIECE, None)
    assert [list(frame.plain.requests) for frame in edge.frames] == [[0, 1, 2, 3, 4]]
    assert list(edge.frames[0].plain.texts) == ["a"] * 5
    assert list(edge.frames[0].plain.token_ids) == [b"\1\0\0\0"] * 5


async def test_nothing_plain_overtakes_its_requests_deltas(deltas: DeltaWriter) -> None:
    edge = Edge()
    started = Started(3, FirstTokenTimes(0.0, 0.0, 0.0, 0.0), ())
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        frames.put(0, 0, PIECE, None)
        await asyncio.sleep(0)  # that one is leaving
        frames.put(1, 0, Piece("a", [1]), started)
        frames.put(1, 1, Piece("other", [3]), None)
        frames.put(1, 0, Piece("b", [2]), None)
        frames.put(2, 0, PIECE, None)
        edge.reads.set()
    _, frame = edge.frames
    told = [(each.request, each.choice, each.text) for each in frame.deltas]
    assert told == [(1, 0, "ab"), (1, 1, "other")]
    assert list(frame.plain.requests) == [2]


def calling(*calls: CallDelta, reasoning: str = "") -> Piece:
    return Piece("", [1], apart=Apart(reasoning, calls))


async def test_what_is_apart_goes_on_in_the_delta_that_waits(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        frames.put(0, 0, PIECE, None)
        await asyncio.sleep(0)  # that one is leaving
        frames.put(0, 0, calling(reasoning="Hm"), None)
        frames.put(0, 0, calling(CallDelta(0, "x", "f", ""), reasoning="."), None)
        frames.put(0, 0, calling(CallDelta(0, "", "", "{")), None)
        frames.put(0, 0, calling(CallDelta(0, "", "", "}"), CallDelta(1, "y", "g", "")), None)
        frames.put(0, 0, PIECE, None)
        edge.reads.set()
    [delta] = edge.frames[1].deltas
    assert (delta.reasoning, delta.text) == ("Hm.", "a")
    assert [(call.index, call.id, call.name, call.arguments) for call in delta.tool_calls] == [
        (0, "x", "f", "{}"),
        (1, "y", "g", ""),
    ]
    assert not edge.frames[1].plain.requests


async def test_what_comes_while_a_frame_leaves_is_the_next_frame(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        for number in range(4):
            frames.put(number, 0, PIECE, None)
            await asyncio.sleep(0)
        edge.reads.set()
    assert [len(frame.plain.requests) for frame in edge.frames] == [1, 3]


async def test_an_edge_that_does_not_read_gets_larger_deltas_and_no_more_of_them(
    deltas: DeltaWriter,
) -> None:
    edge = Edge()
    choices = [(request, choice) for request in (1, 2) for choice in (0, 1)]
    finish = Finish(FinishReason.LENGTH, 1001)
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        frames.put(9, 0, PIECE, None)
        await asyncio.sleep(0)  # that one is leaving
        for number in range(1000):
            for request, choice in choices:
                logprobs = (TokenLogprobs(TokenLogprob(number, -1.0), ()),)
                frames.put(
                    request, choice, Piece(f"{choice}.", [number], logprobs, None, (0,)), None
                )
            await asyncio.sleep(0)
        frames.put(2, 1, Piece("end", [7], finish=finish), None)
        frames.put_failure(1, Failure(FailureKind.ENGINE, "the engine failed"))
    leaving, waited = edge.frames
    assert list(leaving.plain.requests) == [9]
    assert [(each.request, each.choice) for each in waited.deltas] == [*choices, (1, 0)]
    assert [each.text for each in waited.deltas][:3] == ["0." * 1000, "1." * 1000, "0." * 1000]
    numbers = list(range(1000))
    assert [list(each.token_ids) for each in waited.deltas[:3]] == [numbers] * 3
    assert [each.token.token_id for each in waited.deltas[2].logprobs] == numbers
    ended, failed = waited.deltas[3:]
    assert (ended.text, len(ended.token_ids)) == ("1." * 1000 + "end", 1001)
    assert ended.finish.completion_tokens == 1001
    assert failed.failed.message == "the engine failed"


async def test_plain_deltas_that_wait_merge_in_their_columns(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        edge.reads.clear()
        frames.put(9, 0, PIECE, None)
        await asyncio.sleep(0)  # that one is leaving
        for number in range(100):
            frames.put(1, 0, Piece("x", [number]), None)
            frames.put(1, 1, Piece("y", [number]), None)
            await asyncio.sleep(0)
        frames.put(1, 0, Piece("end", [7], finish=Finish(FinishReason.STOP, 101)), None)
    _, waited = edge.frames
    assert list(waited.plain.requests) == [1, 1]
    assert list(waited.plain.choices) == [0, 1]
    assert list(waited.plain.texts) == ["x" * 100, "y" * 100]
    assert list(waited.plain.token_ids) == [array("I", range(100)).tobytes()] * 2
    assert [(each.choice, each.text) for each in waited.deltas] == [(0, "end")]


async def test_what_is_put_before_the_writer_runs_leaves_too(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        frames.put(1, 0, PIECE, None)
        frames.close()
    assert len(edge.frames) == 1


async def test_tokens_count_as_their_frame_leaves(deltas: DeltaWriter) -> None:
    registry = CollectorRegistry()
    async with writing(Edge(), deltas, registry) as frames:
        frames.put(1, 0, Piece("ab", [1, 2]), None)
        frames.put(1, 1, PIECE, None)
        assert registry.get_sample_value("headway_worker_generated_tokens_total") == 0
    assert registry.get_sample_value("headway_worker_generated_tokens_total") == 3


async def test_stages_end_when_the_frame_leaves(deltas: DeltaWriter) -> None:
    edge = Edge()
    started = Started(3, FirstTokenTimes(0.0, 0.0, 0.0, 0.0), ())
    async with writing(edge, deltas) as frames:
        frames.put(1, 0, PIECE, started)
    told = edge.frames[0].deltas[0].started
    assert (told.cached_tokens, told.epoch) == (3, 7)
    assert told.timings.worker_egress_us > 0  # the clock did not begin at this test


async def test_a_failure_says_which_parameter(deltas: DeltaWriter) -> None:
    edge = Edge()
    async with writing(edge, deltas) as frames:
        frames.put_failure(4, Failure(FailureKind.INVALID, "no", "top_p"))
    (delta,) = edge.frames[0].deltas
    assert delta.request == 4
    assert delta.failed == pb.Failed(
        reason=pb.FAILURE_REASON_INVALID, message="no", parameter="top_p"
    )
