"""Pipes open on first use and close when they rest; nothing is lost in between."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from headway.worker.v1 import worker_pb2 as worker
from services.edge.pipe import Pipes
from tests.edge.conftest import Stage, staged
from tests.edge.test_losing import Sink

REQUEST = worker.GenerateRequest(sampling=worker.Sampling(choices=1))


@pytest.fixture
async def restless() -> AsyncIterator[Stage]:
    async with staged(pipe_idle_s=0.02) as built:
        yield built


async def _closed(stage: Stage) -> None:
    async with asyncio.timeout(5):
        await stage.workers[0].until(lambda worker: not worker.open_pipes)


async def test_a_pipe_that_rests_is_closed_and_the_next_request_opens_it(restless: Stage) -> None:
    first = restless.workers[0]
    for times in (1, 2):
        assert (await restless.chat()).status_code == 200
        assert first.opened_pipes == times
        await _closed(restless)
    assert restless.workers[1].opened_pipes == 0  # nobody used it


async def test_a_pipe_on_which_a_request_runs_stays(stage: Stage) -> None:
    stage.workers[0].hangs_after = 1
    pipes, sink = Pipes(idle_s=0.01), Sink()
    address = stage.scheduler.fleet[0].address
    pipe = pipes.to(address)
    number = pipe.start(REQUEST, sink)
    assert await sink.arrived.get() is not None
    await asyncio.sleep(0.05)
    assert pipes.to(address) is pipe
    pipe.abort(number)
    await _closed(stage)
    assert pipes.to(address) is not pipe
    await pipes.close()


async def test_what_starts_in_the_very_turn_in_which_a_pipe_closes_gets_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes, sink = Pipes(idle_s=0.01), Sink()
    address = stage.scheduler.fleet[0].address
    end = pipes._end

    def end_and_start(closing: str) -> None:
        monkeypatch.undo()
        end(closing)
        pipes.to(address).start(REQUEST, sink)

    monkeypatch.setattr(pipes, "_end", end_and_start)
    resting = pipes.to(address)
    async with asyncio.timeout(5):
        deltas = [await sink.arrived.get() for _ in stage.workers[0].story]
    assert "".join(delta.text for delta in deltas if delta) == stage.workers[0].story
    assert pipes.to(address) is not resting
    await pipes.close()


async def test_requests_that_come_about_when_pipes_close_are_all_carried(stage: Stage) -> None:
    idle_s = 0.005
    pipes, first = Pipes(idle_s), stage.workers[0]
    address = stage.scheduler.fleet[0].address
    for number in range(40):
        pipe, sink = pipes.to(address), Sink()
        started = pipe.start(REQUEST, sink)
        async with asyncio.timeout(5):
            deltas = [await sink.arrived.get() for _ in first.story]
        assert None not in deltas
        pipe.ended(started)
        await asyncio.sleep(idle_s * (0.8 + number % 5 / 10))
    assert first.opened_pipes > 1
    await pipes.close()
