"""Adapters are loaded before their first use, once, and unloaded only when nobody uses them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from headway.worker.v1 import worker_pb2 as pb
from services.blocks import block_hashes, chain_root, read_hashes
from services.worker.adapters import RETRY_S, Adapters
from services.worker.engine import AdapterRefused, BlocksStored, Engine, EngineBroken, Run, Sampling
from services.worker.kv import CachedBlocks
from services.worker.metrics import Metrics
from tests.worker.conftest import Serve, Served


class Scripted:
    """As much of an engine as adapters need; loads wait while `slow`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.stuck: set[str] = set()
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.now_s = 0.0

    async def load_adapter(self, name: str) -> None:
        self.calls.append(f"+{name}")
        await self.may_load.wait()
        self.now_s += 0.5
        if name in self.broken:
            raise AdapterRefused(f"adapter {name!r} cannot be loaded")

    async def unload_adapter(self, name: str) -> None:
        self.calls.append(f"-{name}")
        if name in self.stuck:
            raise EngineBroken(f"adapter {name!r} cannot be unloaded")


def shelf(slots: int) -> tuple[Adapters, Scripted]:
    engine = Scripted()
    metrics = Metrics(CollectorRegistry())
    adapters = Adapters(cast(Engine, engine), metrics, lambda: engine.now_s)
    adapters.slots = slots
    return adapters, engine


def run(run_id: str, adapter: str) -> Run:
    return Run(
        run_id=run_id,
        tokens=[1],
        generated=0,
        choice=0,
        max_tokens=1,
        min_tokens=0,
        sampling=Sampling(),
        adapter=adapter,
    )


numbers = count()


async def use(adapters: Adapters, *names: str) -> None:
    """One request after the other."""
    for name in names:
        async with adapters.held(run(f"use-{next(numbers)}", name)):
            assert not name or name in adapters.loaded


async def turns(count: int = 20) -> None:
    """Let whoever can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def holding(adapters: Adapters, run_id: str, name: str) -> AsyncIterator[asyncio.Event]:
    """A request that runs until the block ends; the event says that it has its adapter."""
    has_it, done = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with adapters.held(run(run_id, name)):
            has_it.set()
            await done.wait()

    serving = asyncio.create_task(serve())
    await turns()
    try:
        yield has_it
    finally:
        done.set()
        await serving


@pytest.mark.parametrize(
    ("slots", "asked", "calls"),
    [
        pytest.param(2, ["", ""], [], id="the-base-model-loads-nothing"),
        pytest.param(2, ["a", "a"], ["+a"], id="loaded-once"),
        pytest.param(2, ["a", "b", "a"], ["+a", "+b"], id="side-by-side"),
        pytest.param(
            2, ["a", "b", "a", "c"], ["+a", "+b", "-b", "+c"], id="least-recently-used-goes"
        ),
        pytest.param(1, ["a", "b", "a"], ["+a", "-a", "+b", "-b", "+a"], id="one-slot"),
    ],
)
async def test_loads_and_unloads(slots: int, asked: Sequence[str], calls: list[str]) -> None:
    adapters, engine = shelf(slots)
    await use(adapters, *asked)
    assert engine.calls == calls
    assert len(adapters.loads) == sum(call.startswith("+") for call in calls)
    assert all(load.load_s == 0.5 for load in adapters.loads)


async def test_an_adapter_that_cannot_be_unloaded_keeps_its_slot() -> None:
    adapters, engine = shelf(2)
    await use(adapters, "a", "b")
    engine.stuck.add("a")
    with pytest.raises(EngineBroken):
        await use(adapters, "c")
    assert adapters.loaded == ("a", "b")
    await use(adapters, "c", "a")
    assert engine.calls == ["+a", "+b", "-a", "-b", "+c"]


async def test_first_uses_at_once_share_one_load() -> None:
    adapters, engine = shelf(2)
    engine.may_load.clear()
    async with holding(adapters, "1", "a") as first, holding(adapters, "2", "a") as second:
        assert not first.is_set()
        engine.may_load.set()
        await turns()
        assert first.is_set()
        assert second.is_set()
    assert engine.calls == ["+a"]


async def test_an_adapter_in_use_stays_until_its_last_request_ends() -> None:
    adapters, engine = shelf(1)
    async with holding(adapters, "1", "a"):
        waiting = asyncio.create_task(use(adapters, "b"))
        await turns()
        assert engine.calls == ["+a"]
    await waiting
    assert engine.calls == ["+a", "-a", "+b"]


async def test_nobody_overtakes_an_adapter_that_needs_a_slot() -> None:
    adapters, engine = shelf(1)
    async with holding(adapters, "1", "a"):
        patient = asyncio.create_task(use(adapters, "b"))
        await turns()
        late = asyncio.create_task(use(adapters, "a"))
        await turns()
        assert not late.done()
    await asyncio.gather(patient, late)
    assert engine.calls == ["+a", "-a", "+b", "-b", "+a"]


async def test_loading_one_does_not_hold_up_those_that_are_loaded() -> None:
    adapters, engine = shelf(2)
    await use(adapters, "a")
    engine.may_load.clear()
    waiting = asyncio.create_task(use(adapters, "b"))
    await turns()
    await use(adapters, "a")
    engine.may_load.set()
    await waiting


async def test_a_failed_load_fails_all_who_wait_and_is_not_tried_again_at_once() -> None:
    adapters, engine = shelf(2)
    engine.broken = {"a"}
    failed = await asyncio.gather(*(use(adapters, "a") for _ in range(5)), return_exceptions=True)
    assert [str(each) for each in failed] == ["adapter 'a' cannot be loaded"] * 5
    with pytest.raises(AdapterRefused):
        await use(adapters, "a")
    assert engine.calls == ["+a"]
    await use(adapters, "b")  # the others are none the worse
    engine.broken.clear()
    engine.now_s += RETRY_S
    await use(adapters, "a")
    assert adapters.loaded == ("a", "b")


async def test_a_failed_load_takes_no_slot() -> None:
    adapters, engine = shelf(1)
    engine.broken = {"a"}
    with pytest.raises(AdapterRefused):
        await use(adapters, "a")
    await use(adapters, "b")
    assert engine.calls == ["+a", "+b"]


async def test_who_gives_up_waits_no_longer_and_loads_nothing() -> None:
    adapters, engine = shelf(1)
    async with holding(adapters, "1", "a"):
        async with holding(adapters, "2", "b") as second:
            adapters.give_up(["2"])
            await turns()
            assert second.is_set()  # to end, as its request says
        assert adapters.loaded == ("a",)
    await turns()
    await use(adapters, "a")
    assert engine.calls == ["+a"]


async def test_a_caller_that_is_cancelled_leaves_the_load_to_the_others() -> None:
    adapters, engine = shelf(1)
    engine.may_load.clear()
    async with holding(adapters, "2", "a") as second:
        gone = asyncio.create_task(use(adapters, "a"))
        await turns()
        gone.cancel()
        await turns()
        engine.may_load.set()
        await turns()
        assert second.is_set()
    assert gone.cancelled()
    assert engine.calls == ["+a"]


def asked(adapter: str, request_id: str = "r") -> pb.GenerateRequest:
    return pb.GenerateRequest(
        request_id=request_id,
        model="alias",
        adapter=adapter,
        prompt_token_ids=range(1, 41),
        sampling=pb.Sampling(max_tokens=8, temperature=0),
    )


async def generate(worker: Served, adapter: str, request_id: str = "r") -> list[pb.Delta]:
    call = worker.stub.Generate(asked(adapter, request_id))
    return [message.delta async for message in call]


def text(deltas: Sequence[pb.Delta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_an_adapter_has_a_text_and_a_cache_of_its_own(serve: Serve) -> None:
    async with serve(adapter_load_ms=0) as worker:
        base = await generate(worker, "")
        poet = await generate(worker, "poet")
        again = await generate(worker, "poet", "again")
        described = await worker.stub.Describe(pb.DescribeRequest())
    assert text(poet) == text(again) != text(base)
    cached = [deltas[0].started.cached_tokens for deltas in (base, poet, again)]
    assert cached == [0, 0, 32]
    assert list(described.adapters) == ["clerk", "poet"]
    assert list(described.loaded_adapters) == ["poet"]


async def test_blocks_of_an_adapter_are_known_under_its_own_root(serve: Serve) -> None:
    async with serve(adapter_load_ms=0) as worker:
        await generate(worker, "poet")
        events = await anext(aiter(worker.engine.kv_events()))
    known = CachedBlocks("main").apply([each for each in events if isinstance(each, BlocksStored)])
    wire = b"".join(token.to_bytes(4, "little") for token in range(1, 33))
    hashes = read_hashes(block_hashes(wire, 16, chain_root("main", "poet")))
    assert list(read_hashes(known.stored))[:2] == list(hashes)


async def until_running(worker: Served) -> None:
    described = pb.DescribeResponse()
    while not described.requests:
        described = await worker.stub.Describe(pb.DescribeRequest())


async def test_an_abort_reaches_a_request_that_waits_for_its_adapter(serve: Serve) -> None:
    async with serve(adapter_load_ms=60_000) as worker:
        call = worker.stub.Generate(asked("poet"))
        async with asyncio.timeout(10):
            await until_running(worker)
        await worker.stub.Abort(pb.AbortRequest(request_id="r"))
        deltas = [message.delta async for message in call]
    assert deltas[-1].finish.reason == pb.FINISH_REASON_ABORTED


async def test_waiting_for_an_adapter_is_part_of_the_time_before_the_engine(serve: Serve) -> None:
    async with serve(adapter_load_ms=100) as worker:
        (first, *_) = await generate(worker, "poet")
    timings = first.started.timings
    assert timings.worker_ingress_us >= 100_000 > timings.engine_queue_us + timings.prefill_us
