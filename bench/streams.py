"""What an open stream costs an edge in memory, and whether the edge gives it back.

`python -m bench.streams [--streams N] [--rounds N] [--words N]`

Starts its own system: one edge process and a simulated engine so slow that every stream is idle
between two tokens. Prints JSON.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.system import System, system

QUEUE_LIMIT = "16384"
STEP_MS = 2000
TOKENS = 12
"""Of a stream: it lives for so many steps, while the others are opened."""
SIM = (
    f"base_ms={STEP_MS},prefill_us=0,decode_us=0,budget=1000000,"
    "max_running=16384,capacity_blocks=200000,block_size=16"
)
AT_ONCE = 100
"""Connections that are made together."""
PAUSE_S = 0.05
SETTLED_S = 2.0
BUDGET_KB = 30


@dataclass(frozen=True, slots=True)
class Round:
    """All streams once: opened together, open together, ended. Memory is the edge's RSS."""

    answered: int
    """Streams that ended with `[DONE]` after as many events as they had tokens."""
    open_at_once: int
    """Streams that had got their first token while none had ended, when memory was read."""
    before_kb: int
    open_kb: int
    after_kb: int

    @property
    def kb_a_stream(self) -> float:
        """What a stream added."""
        return (self.open_kb - self.before_kb) / self.open_at_once


class Stream(asyncio.Protocol):
    """One client that asks once and reads to the end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._tail = b""
        self.events = 0
        self.is_done = False
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the events."""
        self._tail += data
        *lines, self._tail = self._tail.split(b"\n")
        for line in lines:
            self.events += line.startswith(b"data: {")
            self.is_done = self.is_done or line.startswith(b"data: [DONE]")
        if self.events and not self.first.done():
            self.first.set_result(None)
        if self.is_done:
            self._transport.close()

    def leave(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, one way or another."""
        for future in (self.first, self.ended):
            if not future.done():
                future.set_result(None)


@dataclass(slots=True)
class Clients:
    """Opens streams on one edge."""

    url: str
    tokens: int = TOKENS
    words: int = 0  # of a prompt, beside the few that it has anyway
    streams: list[Stream] = field(default_factory=list)

    async def open(self, count: int) -> None:
        """Ask `count` times, and wait until each has its first token."""
        loop = asyncio.get_running_loop()
        address = urlsplit(self.url).netloc
        host, _, port = address.partition(":")
        for number in range(count):
            stream = Stream(_request(address, self._prompt(number), self.tokens))
            await loop.create_connection(lambda stream=stream: stream, host, int(port))  # type: ignore[misc]
            self.streams.append(stream)
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(PAUSE_S)
        await asyncio.gather(*(stream.first for stream in self.streams))

    async def ended(self) -> int:
        """Wait until all have ended; how many did so as they should."""
        await asyncio.gather(*(stream.ended for stream in self.streams))
        # A role's event, one a token, the end.
        wanted = self.tokens + 2
        return sum(stream.is_done and stream.events == wanted for stream in self.streams)

    def _prompt(self, number: int) -> str:
        return f"Tell me the story of number {number}." + " story" * self.words

    def leave(self) -> None:
        """Close all connections."""
        for stream in self.streams:
            stream.leave()

    @property
    def still_open(self) -> int:
        """Streams that have begun and not ended."""
        return sum(bool(each.events) and not each.is_done for each in self.streams)


def _request(host: str, prompt: str, tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": "smollm2",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
        "Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
        "User-Agent: OpenAI/Python 2.0.0\r\nAuthorization: Bearer nobody\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def measured(clients: Clients, edge: psutil.Process, streams: int) -> Round:
    """One round."""
    before_kb = _rss_kb(edge)
    await clients.open(streams)
    open_kb, open_at_once = _rss_kb(edge), clients.still_open
    answered = await clients.ended()
    await asyncio.sleep(SETTLED_S)
    return Round(answered, open_at_once, before_kb, open_kb, _rss_kb(edge))


async def rounds(running: System, streams: int, words: int, count: int) -> list[Round]:
    """Several rounds on one edge, after a few streams that warm it up."""
    [row] = running.ps("edge")
    edge = psutil.Process(row["pid"])
    await measured(Clients(running.url), edge, AT_ONCE)
    return [await measured(Clients(running.url, words=words), edge, streams) for _ in range(count)]


def _rss_kb(process: psutil.Process) -> int:
    rss: int = process.memory_info().rss
    return rss // 1024


def _allow_files(count: int) -> None:
    """Let this process and those that it starts have so many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(f"bench.streams: needs {count} open files, and may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def main() -> int:
    """Print the rounds; 1 when a stream was not answered or cost more than its budget."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=0, help="added to each prompt")
    arguments = parser.parse_args()
    _allow_files(arguments.streams + 200)
    flags = ("--engine", "sim", "--workers", "1", "--sim", SIM)
    env = {"SCHEDULER_QUEUE_LIMIT": QUEUE_LIMIT}
    with tempfile.TemporaryDirectory() as home, system(Path(home), *flags, env=env) as running:
        done = asyncio.run(rounds(running, arguments.streams, arguments.words, arguments.rounds))
    cost_kb = max(each.kb_a_stream for each in done)
    summary = {
        "streams": arguments.streams,
        "words": arguments.words,
        "kb_a_stream": round(cost_kb, 1),
        "budget_kb": BUDGET_KB,
        "rounds": [asdict(each) | {"kb_a_stream": round(each.kb_a_stream, 1)} for each in done],
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(summary, indent=1))
    answered = all(each.answered == arguments.streams for each in done)
    return 0 if answered and cost_kb <= BUDGET_KB else 1


if __name__ == "__main__":
    sys.exit(main())
