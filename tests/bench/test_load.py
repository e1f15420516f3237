"""The load generator against the simulated engine, in one process."""

import argparse
import asyncio
from collections.abc import AsyncIterator

import pytest

from bench.overhead.engine import Engine, Numbers
from bench.overhead.load import flags, loaded, read_load
from bench.overhead.openai_engine import Door
from bench.overhead.workload import Load
from services.worker.sim_core import SimSettings


@pytest.fixture
async def engine_url() -> AsyncIterator[str]:
    engine = Engine(SimSettings(base_ms=1.0, prefill_us=0.0, decode_us=0.0))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(engine), "127.0.0.1", 0)
    stepping = asyncio.create_task(engine.run())
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    stepping.cancel()
    await asyncio.wait({stepping})
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("load", "requests"),
    [
        pytest.param(Load(requests=5, at_once=2, max_tokens=4), 5, id="streamed"),
        pytest.param(Load(requests=5, at_once=2, max_tokens=4, stream=False), 5, id="whole"),
        pytest.param(Load(requests=5, rate_per_s=200.0, max_tokens=4), 5, id="by-rate"),
        pytest.param(
            Load(requests=2, at_once=2, max_tokens=4, workload="chat", turns=3), 6, id="chat"
        ),
    ],
)
async def test_every_answer_is_whole(engine_url: str, load: Load, requests: int) -> None:
    figures = await loaded(engine_url, load)
    assert (figures["failed"], figures["requests"], figures["tokens"]) == (
        0,
        requests,
        4 * requests,
    )
    assert figures["deltas"] == (4 * requests if load.stream else 0)


async def test_an_engine_that_is_not_there_is_a_failure_and_no_crash() -> None:
    figures = await loaded("http://127.0.0.1:9", Load(requests=3, rate_per_s=100.0))
    assert (figures["failed"], figures["requests"]) == (3, 0)


def test_a_load_survives_its_command_line() -> None:
    load = Load(requests=7, rate_per_s=0.5, stream=False, ignore_eos=True, workload="shared")
    url, read = read_load(argparse.ArgumentParser(), ["--url=http://x:1", *flags(load)])
    assert (url, read) == ("http://x:1", load)


def test_equal_prompts_have_equal_blocks_up_to_the_first_difference() -> None:
    one, other = Numbers(range(40), 16), Numbers([*range(20), *range(20)], 16)
    assert one.block_hashes(2)[0] == other.block_hashes(2)[0]
    assert one.block_hashes(2)[1] != other.block_hashes(2)[1]
    assert len(one.block_hashes(2)) == 2
