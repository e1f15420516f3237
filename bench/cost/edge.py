"""The edge: from a client's bytes to bytes for the client, between services that cost nothing.

What is counted is all that the edge's process does in Python and in its libraries, uvicorn and
uvloop among them; only gRPC and the sockets are left out. The services around it answer with
what was packed beforehand.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from struct import pack
from typing import Any
from unittest.mock import patch

import uvicorn
from prometheus_client import generate_latest
from uvicorn.server import ServerState

from bench.cost.prompts import BLOCKS, MODEL, PROMPT_TOKENS, text
from bench.cost.wire import Call, Channel, Peer, packed
from bench.cost.workload import Run
from headway.scheduler.v1 import scheduler_pb2 as scheduler
from headway.tokenizer.v1 import tokenizer_pb2 as tokenizer
from headway.worker.v1 import worker_pb2 as worker
from observability.telemetry import start_logs, start_telemetry
from services.edge.__main__ import hops_of
from services.edge.accounts import Accounts
from services.edge.client import Protocol
from services.edge.config import Config
from services.edge.server import Edge
from services.edge.tenants import Tenants
from services.edge.visits import Visits

STREAMS = 32  # deltas of a frame, one a request
REQUESTS = 8  # asked at once; the edge batches them on its way to the others
TURNS = 20  # of the loop, until all streams are open


class Tokenizer:
    """Encodes every prompt the same."""

    def __init__(self) -> None:
        encoded = tokenizer.Encoded(
            token_ids=bytes(4 * PROMPT_TOKENS), block_hashes=bytes(8 * BLOCKS), block_size=16
        )
        encoded.timings.tokenize_us = 150
        self._result = tokenizer.EncodeResult(encoded=encoded)

    def opened(self, call: Call) -> None:
        """Nothing comes by itself."""

    def asked(self, call: Call, request: bytes) -> None:
        """Answer a batch."""
        batch = tokenizer.EncodeBatchesRequest.FromString(request)
        results = [self._result] * len(batch.items)
        answer = tokenizer.EncodeBatchesResponse(batch=batch.batch, results=results)
        call.arriving.put(answer.SerializeToString())


class Scheduler:
    """Places every request on the one worker."""

    def __init__(self) -> None:
        self._placed = scheduler.PlaceResponse(
            worker_id="w0",
            address="worker",
            epoch=1,
            timings=scheduler.PlaceTimings(place_us=90),
            decision=scheduler.Decision(policy="predicted", candidates=2, predicted_ttft_ms=30.5),
        )

    def opened(self, call: Call) -> None:
        """Tell who watches of the fleet."""
        if call.method == "WatchFleet":
            only = scheduler.FleetWorker(
                worker_id="w0",
                address="worker",
                kind=scheduler.WORKER_KIND_GENERATE,
                models=[MODEL],
                max_model_tokens=8192,
            )
            call.arriving.put(scheduler.WatchFleetResponse(workers=[only]).SerializeToString())

    def asked(self, call: Call, request: bytes) -> None:
        """Answer a batch."""
        if call.method != "PlaceBatches":
            return
        batch = scheduler.PlaceBatchesRequest.FromString(request)
        answer = scheduler.PlaceBatchesResponse(batch=batch.batch)
        for item in batch.items:
            answer.results.add(request_id=item.request.request_id, placed=self._placed)
        call.arriving.put(answer.SerializeToString())


class Worker:
    """Answers with one token, and ends the request with it unless it `streams`."""

    def __init__(self, *, streams: bool) -> None:
        self._streams = streams
        self.numbers: list[int] = []
        self.call: Call | None = None

    def opened(self, call: Call) -> None:
        """Nothing comes by itself."""
        self.call = call

    def asked(self, call: Call, request: bytes) -> None:
        """Start what is asked for."""
        numbers = [start.request for start in worker.PipeRequest.FromString(request).start]
        if numbers:
            self.numbers += numbers
            first = worker.PipeResponse(deltas=[self._first(number) for number in numbers])
            call.arriving.put(first.SerializeToString())

    def _first(self, number: int) -> worker.Delta:
        delta = worker.Delta(request=number, text="Once", token_ids=[8207])
        delta.started.cached_tokens = 96
        delta.started.timings.prefill_us = 12_000
        if not self._streams:
            delta.finish.reason = worker.FINISH_REASON_LENGTH
            delta.finish.completion_tokens = 1
        return delta


class Connection(asyncio.Transport):
    """A client's connection that keeps only what was written last."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.last = b""
        self.writes = 0
        self._protocol = protocol
        self._answered: asyncio.Future[None] | None = None
        protocol.connection_made(self)

    async def ask(self, request: bytes) -> None:
        """Send a request; return when something that ends in a brace, or an event, came back."""
        self._answered = asyncio.get_running_loop().create_future()
        self._protocol.data_received(request)
        await self._answered

    def write(self, data: Any) -> None:
        """Drop what was written before."""
        self.last = data
        self.writes += 1
        waiting = self._answered
        if waiting is not None and data.endswith((b"}", b"}\n\n\r\n")):
            self._answered = None
            waiting.set_result(None)

    def is_closing(self) -> bool:
        """It stays."""
        return False

    def pause_reading(self) -> None:
        """It sends one request at a time."""

    resume_reading = pause_reading


def _request(*, stream: bool) -> bytes:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text(0)}],
        "max_tokens": 4000 if stream else 1,
        "temperature": 0,
    }
    content = json.dumps(body | ({"stream": True} if stream else {})).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\naccept: */*\r\n"
    head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(content) + content


@asynccontextmanager
async def _edge(worker: Worker, connections: int) -> AsyncIterator[list[Connection]]:
    """An edge as its `__main__` makes it, and so many clients."""
    peers: dict[str, Peer] = {"tokenizer": Tokenizer(), "scheduler": Scheduler(), "worker": worker}
    config = Config(tokenizers=("tokenizer",), scheduler="scheduler", pools=(MODEL,))
    with patch("grpc.aio.insecure_channel", lambda address, **_: Channel(peers[address])):
        log = start_logs("edge")
        async with hops_of(config, log) as hops:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert hops.fleet.pools, "the scheduler has told of the fleet"
            visits = Visits(start_telemetry("edge", {}), Accounts(), log)
            edge = Edge(config, hops, Tenants({}), visits, generate_latest)
            http = uvicorn.Config(
                edge, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False
            )
            state = ServerState()
            state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
            yield [Connection(Protocol(http, state, {})) for _ in range(connections)]


@asynccontextmanager
async def token() -> AsyncIterator[Run]:
    """Frames with a delta for each of many streams; a unit is a delta."""
    peer = Worker(streams=True)
    async with _edge(peer, STREAMS) as connections:
        request = _request(stream=True)
        await asyncio.gather(*(connection.ask(request) for connection in connections))
        call = peer.call
        assert call is not None, "they were answered"
        await call.arriving.dealt_with()
        frames = cycle(packed(_frames(peer.numbers)))

        async def run(units: int) -> None:
            for _ in range(units // STREAMS):
                call.arriving.put(next(frames))
                await call.arriving.dealt_with()

        yield run
        assert all(b'"content":" ' in connection.last for connection in connections)


def _frames(numbers: list[int]) -> list[worker.PipeResponse]:
    """Sixteen, no two alike; a word in eight is two tokens and has to be escaped."""
    return [
        worker.PipeResponse(
            plain=worker.Plain(
                requests=numbers,
                choices=[0] * len(numbers),
                texts=[
                    f" word{step}" if number % 8 else f' "quoted" {number}' for number in numbers
                ],
                token_ids=[
                    pack("<I", 200 * step + number)
                    if number % 8
                    else pack("<2I", number, 40_000 + step)
                    for number in numbers
                ],
            )
        )
        for step in range(16)
    ]


@asynccontextmanager
async def request() -> AsyncIterator[Run]:
    """Chats of 300 tokens answered whole, with one token; a unit is a request."""
    async with _edge(Worker(streams=False), REQUESTS) as connections:
        content = _request(stream=False)

        async def run(units: int) -> None:
            for _ in range(units // REQUESTS):
                await asyncio.gather(*(connection.ask(content) for connection in connections))

        yield run
        assert all(b'"content":"Once"' in connection.last for connection in connections)
