"""What an open stream on which nothing happens costs the edge in memory."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

import uvloop

from bench.overhead import usage
from bench.overhead.children import NotMeasured
from bench.overhead.connection import Connection, post
from bench.overhead.gateway import FAST, Gateway, Place
from bench.overhead.gateways import GATEWAYS
from bench.overhead.measuring import WARM_UP, Labelled, run_load
from bench.overhead.workload import Load, talks

OPENED_PER_S = 300.0
IDLE_S = 2.0
ENDED_S = 4.0
SETTLED_S = 10.0
"""Allocators give back what the warm-up took within this."""
BEGUN_S = 120.0
"""All streams have their first text within this, after the last was asked for."""
# A step takes 4 ms for each stream. So a few streams flow, and with 2,500 on a worker each of
# them is idle for 10 s between two tokens.
SLOW = replace(FAST, base_ms=1.0, decode_us=4000.0)


@dataclass(frozen=True, slots=True)
class IdleStreams:
    """So many streams at once, then so many; each time all are left by their clients."""

    counts: tuple[int, ...]

    def __call__(self, subject: str, place: Place) -> Iterator[Labelled]:
        """Memory of the processes that hold the streams: the edge's, or a peer's."""
        with GATEWAYS[subject](replace(place, pace=SLOW)) as gateway:
            run_load(gateway.url, WARM_UP)
            time.sleep(SETTLED_S)
            pids = gateway.services.get("edge") or gateway.services["gateway"]
            first_bytes = usage.rss_bytes(pids)
            for number, count in enumerate(self.counts):
                open_bytes = uvloop.run(_hold(gateway, count, pids))
                time.sleep(ENDED_S)
                label = f"{count} open" + (", again" if count in self.counts[:number] else "")
                yield (
                    label,
                    {
                        "open": float(count),
                        "kb_a_stream": (open_bytes - first_bytes) / count / 1e3,
                        "rss_before_mb": first_bytes / 1e6,
                        "rss_open_mb": open_bytes / 1e6,
                        "rss_after_mb": usage.rss_bytes(pids) / 1e6,
                    },
                )

    def scaled(self, part: float) -> Self:
        """Fewer streams."""
        return replace(self, counts=tuple(round(part * count) for count in self.counts))


async def _hold(gateway: Gateway, count: int, pids: tuple[int, ...]) -> float:
    """The memory while so many streams are open and idle."""
    parts = urlsplit(gateway.url)
    assert parts.hostname is not None
    assert parts.port is not None
    address = parts.hostname, parts.port
    load = Load(requests=count, at_once=count, max_tokens=4000)
    connections: list[Connection] = []
    asking: list[asyncio.Task[object]] = []
    try:
        for [body] in talks(load):
            connection = await Connection.to(*address)
            connections.append(connection)
            asked = connection.ask(post(*address, body), load.max_tokens)
            asking.append(asyncio.create_task(asked))
            await asyncio.sleep(1 / OPENED_PER_S)
        await _until_begun(connections)
        await asyncio.sleep(IDLE_S)
        if any(task.done() for task in asking):
            raise NotMeasured(f"{sum(task.done() for task in asking)} of {count} streams ended")
        return usage.rss_bytes(pids)
    finally:
        for connection in connections:
            connection.close()
        await asyncio.gather(*asking)


async def _until_begun(connections: list[Connection]) -> None:
    async with asyncio.timeout(BEGUN_S):
        while not all(connection.answer.deltas for connection in connections):
            failures = [each.answer.failure for each in connections if each.answer.failure]
            if failures:
                raise NotMeasured(f"{len(failures)} streams failed: {failures[0]}")
            await asyncio.sleep(0.2)
