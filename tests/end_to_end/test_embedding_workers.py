"""A request of many inputs uses all embedding workers, and outlives one of them."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1 import scheduler_pb2_grpc as rpc
from tests.end_to_end.asking import pid_of
from tests.system import System, system

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

TEXTS = [f"Sentence number {number} of a long book about the sea." for number in range(400)]
EMBEDDERS = {"worker-1", "worker-2"}


@pytest.fixture(scope="module")
def running(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("embedders")
    arguments = ("--engine", "sim", "--workers", "1", "--embedding-workers", "2")
    with system(home, *arguments) as started:
        yield started


def embed(running: System, texts: list[str]) -> Any:
    asked = {"model": "minilm", "input": texts}
    response = httpx.post(f"{running.url}/v1/embeddings", json=asked, timeout=120)
    assert response.status_code == 200, response.text
    return response.json()


def workers_of_last(running: System, count: int) -> list[str]:
    with grpc.insecure_channel(running.address("scheduler")) as channel:
        stub: rpc.SchedulerServiceStub = rpc.SchedulerServiceStub(channel)
        answered = stub.ListDecisions(pb.ListDecisionsRequest(limit=count))
    return [decision.worker_id for decision in answered.decisions]


def test_many_inputs_spread_over_the_workers_and_outlive_one(running: System) -> None:
    whole = embed(running, TEXTS)
    placed = workers_of_last(running, len(TEXTS))
    assert set(placed) == EMBEDDERS
    assert all(placed.count(worker) > len(TEXTS) / 4 for worker in EMBEDDERS)

    pid = pid_of(running, "worker-2")
    killing = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killing.start()
    again = embed(running, TEXTS)
    killing.join()
    assert again["usage"] == whole["usage"]
    for one, other in zip(whole["data"], again["data"], strict=True):
        assert one["index"] == other["index"]
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-5)
