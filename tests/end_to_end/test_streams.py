"""Many streams at once on one edge: all answered, all ended, nothing left open."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.streams import Clients
from tests.system import System, system

STREAMS = 500
TOKENS = 10
SIM = "base_ms=300,prefill_us=0,decode_us=0,budget=100000,max_running=1000,capacity_blocks=20000"


@pytest.fixture(scope="module")
def edge(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    flags = ("--engine", "sim", "--workers", "1", "--sim", SIM)
    with system(tmp_path_factory.mktemp("streams"), *flags) as running:
        yield running


def open_requests(system: System) -> float:
    lines = httpx.get(f"{system.url}/metrics").text.splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("headway_edge_open_requests ")]
    return float(value)


async def _ask(system: System) -> int:
    clients = Clients(system.url, TOKENS)
    await clients.open(STREAMS)
    return await clients.ended()


def test_all_are_answered_and_none_stays_open(edge: System) -> None:
    assert asyncio.run(_ask(edge)) == STREAMS
    deadline = time.monotonic() + 10
    while open_requests(edge):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    statuses = httpx.get(f"{edge.url}/metrics").text
    assert f'headway_edge_requests_total{{endpoint="chat",status="200"}} {STREAMS}.0' in statuses


def test_clients_that_leave_together_leave_nothing_open(edge: System) -> None:
    async def leave() -> None:
        clients = Clients(edge.url, 2000)
        await clients.open(STREAMS)
        assert open_requests(edge) == STREAMS
        clients.leave()

    asyncio.run(leave())
    deadline = time.monotonic() + 10
    while open_requests(edge):
        assert time.monotonic() < deadline
        time.sleep(0.05)
