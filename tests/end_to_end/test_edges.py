"""Several edges on one port: they answer for one another, and one that goes takes nobody along."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.asking import ask, chat
from tests.system import System, system

SOON_S = 20
OPEN = "headway_edge_open_requests"
PROBES = ("healthz", "metrics", "readyz")
Counts = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def edges(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    sim = ("--engine", "sim", "--sim", "base_ms=5")
    with system(tmp_path_factory.mktemp("edges"), *sim, "--edges", "3") as running:
        yield running


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def urls(edges: System) -> list[str]:
    """Where each edge alone answers."""
    return [f"http://{row['metrics_address']}" for row in edges.ps("edge")]


def counts(url: str) -> Counts:
    """What `/metrics` says there, but of those who ask for that, or whether an edge is ready."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = [
        sample
        for family in families
        for sample in family.samples
        if sample.labels.get("endpoint") not in PROBES
    ]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a sample is there twice"
    return found


def answered(counted: Counts) -> float:
    of = frozenset({("endpoint", "chat"), ("status", "200")})
    return counted.get(("headway_edge_requests_total", of), 0)


def opened(counted: Counts) -> float:
    return counted[(OPEN, frozenset())]


def fallen(before: Counts, after: Counts) -> list[Any]:
    """What can only rise, and did not."""
    return [key for key, value in before.items() if key[0] != OPEN and after.get(key, -1) < value]


@contextmanager
def streaming(url: str) -> Iterator[None]:
    """A long stream that has begun."""
    body = ask("Go on and on.", stream=True, max_tokens=4000)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        chunks = response.iter_raw()
        next(chunks)
        yield
        del chunks  # not before: its end would close the connection


def test_ps_lists_every_edge(edges: System) -> None:
    rows = edges.ps("edge")
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert {row["address"] for row in rows} == {edges.url.removeprefix("http://")}
    assert len({row["metrics_address"] for row in rows}) == 3
    assert all(row["ready"] for row in rows)


def test_any_of_them_answers_for_all(edges: System) -> None:
    doors = [edges.url, *urls(edges)]
    before = answered(counts(edges.url))
    for door in doors:
        with httpx.Client(base_url=door, timeout=60) as client:
            chat(client, "Hello.", max_tokens=2)
    for door in doors:  # the last is counted just after its answer
        wait_until(lambda door=door: answered(counts(door)) == before + len(doors))  # type: ignore[misc]
    first, *others = [counts(door) for door in doors]
    assert all(other == first for other in others)


def test_a_trace_is_found_whichever_edge_served_it(edges: System) -> None:
    for url in urls(edges):
        with httpx.Client(base_url=url, timeout=60) as client:
            explained = chat(client, "Hello.", max_tokens=2)["headway"]
        for wanted in ([explained["request_id"]], [explained["trace_id"]], []):
            drawn = edges.headway("trace", *wanted)
            assert drawn.returncode == 0, drawn.stderr
            assert explained["request_id"] in drawn.stdout


def test_what_a_killed_edge_counted_stays_and_what_it_had_open_goes(edges: System) -> None:
    victim, other = edges.ps("edge")[0], urls(edges)[1]
    with httpx.Client(base_url=f"http://{victim['metrics_address']}", timeout=60) as client:
        explained = chat(client, "Hello.", max_tokens=2)["headway"]
    with streaming(other), streaming(f"http://{victim['metrics_address']}"):
        wait_until(lambda: opened(counts(other)) == 2)
        before = counts(other)
        os.kill(victim["pid"], signal.SIGKILL)
        wait_until(lambda: opened(counts(other)) == 1)
        while_down = counts(other)
        assert fallen(before, while_down) == []
        missing = edges.headway("trace", explained["request_id"])
        assert "no recent request has the id" in missing.stderr
    wait_until(lambda: all(row["ready"] for row in edges.ps("edge")))
    with httpx.Client(base_url=urls(edges)[0], timeout=60) as client:
        chat(client, "Hello again.", max_tokens=2)
    wait_until(lambda: answered(counts(other)) == answered(while_down) + 1)
    for url in urls(edges):
        assert fallen(while_down, counts(url)) == []
    wait_until(lambda: opened(counts(other)) == 0)


def test_an_edge_that_drains_loses_no_connection(edges: System) -> None:
    said = asyncio.run(_knock_while_one_drains(edges))
    assert set(said) == {b"200"}


async def _knock_while_one_drains(edges: System) -> Counter[bytes]:
    """What clients get that connect for each request."""
    host, _, port = edges.url.removeprefix("http://").partition(":")
    said: Counter[bytes] = Counter()

    async def client() -> None:
        for _ in range(50):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: edge\r\n\r\n")
            answer = await reader.readuntil(b'"ok"}')
            said[answer.split()[1]] += 1
            writer.close()
            await asyncio.sleep(0.005)

    row = edges.ps("edge")[2]
    async with asyncio.TaskGroup() as clients:
        for _ in range(32):
            clients.create_task(client())
        await asyncio.sleep(0.1)
        os.kill(row["pid"], signal.SIGTERM)
    return said


def test_nothing_of_the_counts_is_left_behind(demo_model: Path, tmp_path: Path) -> None:
    with system(tmp_path, "--engine", "sim", "--workers", "1", "--edges", "2"):
        assert list((tmp_path / "metrics").glob("*.db"))
    assert not (tmp_path / "metrics").exists()
