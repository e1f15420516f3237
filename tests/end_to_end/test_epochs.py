"""A worker that was killed comes back with an empty cache, and nobody believes otherwise."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from tests.end_to_end.asking import chat, pid_of
from tests.system import System, system

TOPICS = ("rivers", "trains", "bread", "clocks", "whales", "paper", "bridges", "salt")
BACK_S = 30.0


@pytest.fixture(scope="module")
def fleet(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("epochs")
    with system(home, "--engine", "sim", "--workers", "2", "--sim", "base_ms=1") as running:
        yield running


@pytest.fixture
def scheduler(fleet: System) -> Iterator[rpc.SchedulerServiceStub]:
    with grpc.insecure_channel(fleet.address("scheduler")) as channel:
        yield rpc.SchedulerServiceStub(channel)


def prompt(topic: str) -> str:
    return f"Tell me about {topic}. " + f"I would like to know all about {topic}. " * 20


def ask_all(client: httpx.Client) -> list[Any]:
    """Each topic once, one after the other: nothing is cached that was not computed before."""
    return [chat(client, prompt(topic), max_tokens=2)["headway"] for topic in TOPICS]


def test_no_hit_of_an_older_epoch_is_ever_credited(
    fleet: System, scheduler: rpc.SchedulerServiceStub
) -> None:
    with httpx.Client(base_url=fleet.url, timeout=60) as client:
        ask_all(client)
        warm = ask_all(client)
        assert all(credit(each) == each["cached_tokens"] > 200 for each in warm)
        victim = warm[0]["worker"]
        killed = worker(scheduler, victim)
        os.kill(pid_of(fleet, victim), signal.SIGKILL)
        back = wait_until_back(scheduler, killed)
        assert back.cached_blocks == 0
        after = ask_all(client)
        again = ask_all(client)
    # The old worker's prompts went somewhere without them; what the other held is still there.
    lost = [topic for topic, each in zip(TOPICS, warm, strict=True) if each["worker"] == victim]
    for topic, before, now in zip(TOPICS, warm, after, strict=True):
        assert credit(now) <= now["cached_tokens"], topic
        if topic in lost:
            assert credit(now) < before["cached_tokens"] / 4, topic
        else:
            assert credit(now) == before["cached_tokens"], topic
    assert [each["cached_tokens"] for each in again] == [each["cached_tokens"] for each in warm]
    assert credited_by_decisions(scheduler, again) == [credit(each) for each in again]


def credit(explained: Any) -> int:
    """Tokens that the scheduler took to be cached when it placed the request."""
    tokens: int = explained["placement"]["cached_tokens"]
    return tokens


def worker(scheduler: rpc.SchedulerServiceStub, worker_id: str) -> pb.WorkerStatus | None:
    listed = scheduler.ListWorkers(pb.ListWorkersRequest()).workers
    return next((each for each in listed if each.hello.worker_id == worker_id), None)


def wait_until_back(
    scheduler: rpc.SchedulerServiceStub, killed: pb.WorkerStatus | None
) -> pb.WorkerStatus:
    """The worker in its next epoch."""
    assert killed is not None
    assert killed.cached_blocks
    deadline_s = time.monotonic() + BACK_S
    while time.monotonic() < deadline_s:
        now = worker(scheduler, killed.hello.worker_id)
        if now is not None and now.hello.epoch != killed.hello.epoch and now.HasField("report"):
            return now
        time.sleep(0.02)
    raise AssertionError(f"{killed.hello.worker_id} did not come back")


def credited_by_decisions(
    scheduler: rpc.SchedulerServiceStub, explained: Sequence[Any]
) -> list[int]:
    """The same credit, from the scheduler's own records."""
    limit = pb.ListDecisionsRequest(limit=200)
    records = {each.request_id: each for each in scheduler.ListDecisions(limit).decisions}
    return [records[each["request_id"]].cached_tokens for each in explained]
