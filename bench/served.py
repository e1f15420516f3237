"""A real tokenizer process, asked as an edge asks: at random times, through its own batches."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from urllib.request import urlopen

import grpc

from bench.prompts import LONG, SHORT, Prompts
from bench.wired import cpu_s, free_port
from command.processes import DEFAULTS
from headway.tokenizer.v1 import tokenizer_pb2 as pb
from services.edge.encoding import Encoded, Encoders
from services.serving import CHANNEL_OPTIONS

MODEL = "smollm2"
TALKS = 40
"""Conversations whose turn 8 is asked again and again: as many as the caches easily hold."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for, and how often a second."""

    folder: str
    case: str
    rate: float
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Served:
    """What a load came to."""

    case: str
    requests_a_s: float
    cpu_us: float
    """Of the tokenizer's process, a request."""
    batch_prompts: float
    p50_ms: float
    p99_ms: float


async def served(load: Load) -> Served:
    """Start a tokenizer, warm it up, load it."""
    first, asked = _requests(load)
    ports = free_port(), free_port()
    async with _tokenizer(load.folder, *ports) as process, _edge(ports[0]) as encoders:
        for request in first:
            await encoders.encode(request)
        batches, cpu_before_s = _batches(ports[1]), cpu_s(process.pid)
        begun_s = time.perf_counter()
        took_s = sorted(await _ask(encoders, asked, load))
        wall_s = time.perf_counter() - begun_s
        count = len(took_s)
        return Served(
            load.case,
            round(count / wall_s, 1),
            round((cpu_s(process.pid) - cpu_before_s) / count * 1e6, 1),
            round(count / (_batches(ports[1]) - batches), 2),
            round(took_s[count // 2] * 1e3, 2),
            round(took_s[count * 99 // 100] * 1e3, 2),
        )


def _requests(load: Load) -> tuple[Sequence[pb.EncodeRequest], Sequence[pb.EncodeRequest]]:
    """What comes before, and what is measured."""
    prompts, count = Prompts(MODEL, load.seed), int(load.rate * load.seconds)
    if load.case == "turn 8":
        talks = [prompts.conversation() for _ in range(TALKS)]
        earlier = [turn for turns in zip(*talks, strict=True) for turn in turns]
        return earlier, [talks[number % TALKS][-1] for number in range(count)]
    tokens = {"short": SHORT, "long": LONG}[load.case]
    asked = [prompts.single(tokens) for _ in range(100 + count)]
    return asked[:100], asked[100:]


async def _ask(encoders: Encoders, asked: Sequence[pb.EncodeRequest], load: Load) -> list[float]:
    chance, due_s = Random(load.seed), time.perf_counter()

    async def one(request: pb.EncodeRequest) -> float:
        sent_s = time.perf_counter()
        assert isinstance(await encoders.encode(request), Encoded)
        return time.perf_counter() - sent_s

    async with asyncio.TaskGroup() as group:
        tasks = []
        for request in asked:
            due_s += chance.expovariate(load.rate)
            await asyncio.sleep(due_s - time.perf_counter())
            tasks.append(group.create_task(one(request)))
    return [task.result() for task in tasks]


@asynccontextmanager
async def _tokenizer(folder: str, port: int, metrics_port: int) -> AsyncIterator[Process]:
    settings = {
        "TOKENIZER_MODELS": f"{MODEL}={folder}",
        "TOKENIZER_LISTEN": f"127.0.0.1:{port}",
        "TOKENIZER_METRICS_LISTEN": f"127.0.0.1:{metrics_port}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.tokenizer",
        env={**DEFAULTS, **os.environ, **settings},
        stderr=DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _edge(port: int) -> AsyncIterator[Encoders]:
    """An edge's side of the stream, once the tokenizer is there."""
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        await channel.channel_ready()
    encoders = Encoders([address])
    [replica] = encoders.replicas
    talking = asyncio.create_task(replica.conversation.run())
    try:
        yield encoders
    finally:
        talking.cancel()
        await asyncio.wait({talking})
        await replica.close()


def _batches(metrics_port: int) -> float:
    """How many batches it has encoded."""
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as page:
        for line in page.read().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == "headway_tokenizer_batch_prompts_count":
                return float(value)
    raise LookupError("the tokenizer does not count its batches")
