"""The worker's side of Join, against a scheduler that listens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headway.scheduler.v1 import scheduler_pb2
from headway.worker.v1 import worker_pb2 as pb
from services.blocks import block_hashes, chain_root, read_hashes
from services.worker.engine import CacheForgotten, KvEvent
from services.worker.join import JoinCall, Joining
from tests.worker.conftest import Serve, Served, simulated
from tests.worker.fake_scheduler import FakeScheduler, listening_scheduler

PROMPT = list(range(100, 140))


@pytest.fixture
def scheduler() -> Iterator[FakeScheduler]:
    listening = listening_scheduler()
    yield listening
    listening.stop()


@asynccontextmanager
async def joined(served: Served, address: str) -> AsyncIterator[None]:
    joining = Joining(served.identity, served.facts, served.engine, served.worker, served.metrics)

    async def welcomed() -> None:
        """Nothing depends on it here."""

    tasks = {
        asyncio.create_task(joining.follow_cache()),
        asyncio.create_task(joining.stay_joined(address, welcomed)),
    }
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def heard(scheduler: FakeScheduler, condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(scheduler.wait_for, condition)


async def hello(scheduler: FakeScheduler) -> scheduler_pb2.Hello:
    return await asyncio.to_thread(scheduler.hellos.get, timeout=10)


async def generate(served: Served, prompt: Sequence[int], max_tokens: int = 1) -> None:
    request = pb.GenerateRequest(
        request_id="r",
        model="alias",
        prompt_token_ids=prompt,
        sampling=pb.Sampling(max_tokens=max_tokens, temperature=0),
    )
    async for _ in served.stub.Generate(request):
        pass


def chain(tokens: Sequence[int]) -> set[int]:
    wire = b"".join(token.to_bytes(4, "little") for token in tokens)
    return set(read_hashes(block_hashes(wire, 16, chain_root("main"))))


async def test_it_says_who_it_is(serve: Serve, scheduler: FakeScheduler) -> None:
    async with serve(capacity_blocks=50) as worker, joined(worker, scheduler.address):
        said = await hello(scheduler)
        await heard(scheduler, lambda: scheduler.reports and scheduler.changes)
    assert (said.worker_id, list(said.models)) == ("w", ["main", "alias"])
    assert (said.epoch, said.block_size) == (worker.identity.epoch, 16)
    assert (said.capacity_blocks, said.engine) == (50, "sim")
    assert (scheduler.changes[0].sequence, scheduler.changes[0].snapshot) == (0, True)


async def test_the_scheduler_knows_what_is_cached(serve: Serve, scheduler: FakeScheduler) -> None:
    async with serve(capacity_blocks=3) as worker, joined(worker, scheduler.address):
        await generate(worker, PROMPT)
        await heard(scheduler, lambda: set(+scheduler.blocks) == chain(PROMPT))
        await generate(worker, range(500, 548))
        await heard(scheduler, lambda: set(+scheduler.blocks) == chain(range(500, 548)))
    assert [change.sequence for change in scheduler.changes] == [*range(len(scheduler.changes))]


async def test_prefills_are_reported_once(serve: Serve, scheduler: FakeScheduler) -> None:
    async with serve() as worker, joined(worker, scheduler.address):
        await generate(worker, PROMPT)
        await generate(worker, PROMPT)

        def timings() -> list[tuple[int, int]]:
            prefills = [each for report in scheduler.reports for each in report.prefills]
            return [(each.computed_tokens, each.cached_tokens) for each in prefills]

        await heard(scheduler, lambda: timings() == [(40, 0), (8, 32)])
        await heard(scheduler, lambda: scheduler.reports[-1].prefix_hit_tokens == 32)
    assert sum(report.generated_tokens for report in scheduler.reports) == 2
    assert sum(report.steps for report in scheduler.reports) == 2


async def test_what_a_broken_stream_lost_is_reported_again(
    serve: Serve, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[scheduler_pb2.Report] = []
    attempt = Joining._attempt

    async def fragile(joining: Joining, stub: Any) -> tuple[JoinCall, float]:
        call, heartbeat_s = await attempt(joining, stub)
        write = call.write

        async def breaking(message: scheduler_pb2.JoinRequest) -> None:
            if message.report.prefills and not broken:
                broken.append(message.report)
                raise asyncio.InvalidStateError("the stream has ended")
            await write(message)

        monkeypatch.setattr(call, "write", breaking)
        return call, heartbeat_s

    monkeypatch.setattr(Joining, "_attempt", fragile)
    async with serve() as worker, joined(worker, scheduler.address):
        await generate(worker, PROMPT)
        await heard(scheduler, lambda: any(report.prefills for report in scheduler.reports))
    assert broken
    assert sum(len(report.prefills) for report in scheduler.reports) == 1
    assert sum(report.steps for report in scheduler.reports) == 1


async def test_after_a_break_it_joins_with_a_snapshot(
    serve: Serve, scheduler: FakeScheduler
) -> None:
    async with serve() as worker, joined(worker, scheduler.address):
        first = await hello(scheduler)
        await generate(worker, PROMPT)
        await heard(scheduler, lambda: set(+scheduler.blocks) == chain(PROMPT))
        scheduler.blocks.clear()
        scheduler.end_stream()
        second = await hello(scheduler)
        await heard(scheduler, lambda: set(+scheduler.blocks) == chain(PROMPT))
    assert first.epoch == second.epoch
    assert scheduler.changes[-1].snapshot


async def test_it_waits_for_a_scheduler_that_comes_later(serve: Serve) -> None:
    late = listening_scheduler()
    late.stop()
    async with serve() as worker, joined(worker, late.address):
        await generate(worker, PROMPT)
        late = listening_scheduler(late.address)
        try:
            await hello(late)
            await heard(late, lambda: set(+late.blocks) == chain(PROMPT))
        finally:
            late.stop()


async def test_it_drains_when_told_and_says_so(serve: Serve, scheduler: FakeScheduler) -> None:
    async with serve() as worker, joined(worker, scheduler.address):
        await hello(scheduler)
        scheduler.drain()
        await worker.worker.drain_asked.wait()
        await heard(scheduler, lambda: scheduler.reports and scheduler.reports[-1].draining)


async def test_an_emptied_cache_is_a_new_epoch(
    serve: Serve, scheduler: FakeScheduler, tokenizer: Any
) -> None:
    engine = simulated(tokenizer)
    forgotten = asyncio.Event()

    async def events() -> AsyncIterator[Sequence[KvEvent]]:
        await forgotten.wait()
        yield [CacheForgotten()]
        await asyncio.Event().wait()

    engine.kv_events = events  # type: ignore[method-assign]
    async with serve(engine) as worker, joined(worker, scheduler.address):
        first = await hello(scheduler)
        await heard(scheduler, lambda: len(scheduler.changes) == 1)
        forgotten.set()
        second = await hello(scheduler)
        await heard(scheduler, lambda: len(scheduler.changes) == 2)
    assert first.epoch != second.epoch == worker.identity.epoch
    assert (scheduler.changes[1].sequence, scheduler.changes[1].snapshot) == (0, True)
