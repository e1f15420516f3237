"""Asks a running system, and times what streams back."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed chat. `ttft_s` is None when it was refused."""

    status: int
    text: str = ""
    worker: str = ""
    ttft_s: float | None = None
    e2e_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Counted:
    """Prompt tokens by the engines' own counters, since they started."""

    asked: int
    found: int


def client(url: str) -> httpx.AsyncClient:
    """A client with as many connections as it takes."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits)


async def chat(
    http: httpx.AsyncClient, messages: Sequence[Mapping[str, str]], tokens: int, key: str = ""
) -> Answer:
    """Ask once, greedily, for exactly so many tokens; the clock starts with the request."""
    body = {
        "model": "smollm2",
        "messages": messages,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"X-Headway-Explain": "1"} | ({"Authorization": f"Bearer {key}"} if key else {})
    begun_s = time.perf_counter()
    request = http.stream("POST", "/v1/chat/completions", json=body, headers=headers)
    async with request as response:
        if response.status_code != 200:
            await response.aread()
            return Answer(response.status_code)
        return await _read(response, begun_s)


async def _read(response: httpx.Response, begun_s: float) -> Answer:
    texts: list[str] = []
    ttft_s: float | None = None
    last: Any = {}
    async for line in response.aiter_lines():
        if not line.startswith("data: {"):
            continue
        last = json.loads(line.removeprefix("data: "))
        content = [each["delta"].get("content") or "" for each in last.get("choices", ())]
        if ttft_s is None and any(content):
            ttft_s = time.perf_counter() - begun_s
        texts += content
    worker: str = last.get("headway", {}).get("worker", "")
    return Answer(200, "".join(texts), worker, ttft_s, time.perf_counter() - begun_s)


def counted(scheduler: str) -> dict[str, Counted]:
    """What each worker's last report says."""
    with grpc.insecure_channel(scheduler) as channel:
        listed = rpc.SchedulerServiceStub(channel).ListWorkers(pb.ListWorkersRequest())
    return {
        each.hello.worker_id: Counted(
            each.report.prefix_queried_tokens, each.report.prefix_hit_tokens
        )
        for each in listed.workers
        if each.hello.kind == pb.WORKER_KIND_GENERATE
    }
