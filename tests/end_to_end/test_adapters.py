"""LoRA adapters through the whole system, on two real vLLM workers."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headway.scheduler.v1 import scheduler_pb2
from headway.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceStub
from headway.worker.v1 import worker_pb2
from headway.worker.v1.worker_pb2_grpc import WorkerServiceStub
from tests.end_to_end.asking import chat
from tests.lora import write_adapter
from tests.system import System, system

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

BLOCK = 32
TEMPLATE = BLOCK  # the block that all conversations with one model or adapter begin with
LONG = "Tell me, in as many words as you like, about the sea, the sky, the hills and the plains. "


@pytest.fixture(scope="module")
def adapted(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("adapted")
    flags = ["--workers", "2", "--embedding-workers", "0"]
    for seed, name in enumerate(("poet", "clerk")):
        flags += ["--adapter", f"{name}={write_adapter(home / name, demo_model, seed)}"]
    with system(home, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def client(adapted: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=adapted.url, timeout=120) as client:
        yield client


def load_by_hand(adapted: System, index: int, adapter: str) -> None:
    """Use an adapter on a worker, past the scheduler, and wait until that knows what is loaded."""
    with grpc.insecure_channel(adapted.address("worker", index)) as channel:
        request = worker_pb2.GenerateRequest(
            request_id=f"by-hand-{adapter}",
            model="smollm2",
            adapter=adapter,
            prompt_token_ids=[1, 2, 3],
            sampling=worker_pb2.Sampling(temperature=0, max_tokens=1),
        )
        assert list(WorkerServiceStub(channel).Generate(request))
    with grpc.insecure_channel(adapted.address("scheduler")) as channel:
        scheduler = SchedulerServiceStub(channel)
        deadline_s = time.monotonic() + 10
        while list(reported(scheduler, index).loaded_adapters) != [adapter]:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def reported(scheduler: SchedulerServiceStub, index: int) -> scheduler_pb2.Report:
    listed = scheduler.ListWorkers(scheduler_pb2.ListWorkersRequest()).workers
    return listed[index].report


def said(answer: Any) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_requests_go_where_the_adapter_is_loaded(adapted: System, client: httpx.Client) -> None:
    # Of two equal workers the first would be chosen; only the second has the adapter.
    load_by_hand(adapted, 1, "poet")
    answers = [chat(client, f"Number {n}.", model="poet", max_tokens=2) for n in range(3)]
    assert {each["headway"]["worker"] for each in answers} == {"worker-1"}
    assert "poet" in adapted.headway("workers").stdout


def test_the_models_cache_is_not_credited_to_its_adapter(client: httpx.Client) -> None:
    models = ("smollm2", "poet", "poet", "smollm2")
    answers = [chat(client, LONG * 4, model=model, max_tokens=12) for model in models]
    base, poet, poet_again, base_again = answers
    assert said(base) == said(base_again)
    assert said(poet) == said(poet_again) != said(base)
    assert poet["headway"]["cached_tokens"] <= TEMPLATE
    # What the scheduler takes a worker to cache is what its engine then finds.
    expected = [each["headway"]["placement"]["cached_tokens"] for each in answers]
    assert expected == [each["headway"]["cached_tokens"] for each in answers]


def test_adapters_are_listed_with_their_parent(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()["data"]
    parents = {model["id"]: model.get("parent") for model in listed}
    assert (parents["poet"], parents["clerk"], parents["smollm2"]) == ("smollm2", "smollm2", None)


def test_waiting_for_the_load_is_in_the_account(client: httpx.Client) -> None:
    first = chat(client, "Hello.", model="clerk", max_tokens=2)
    account = first["headway"]["ttft_ms"]
    assert account["stages"]["worker_ingress"] > 1
    assert abs(account["unattributed"]) < max(1.0, 0.02 * account["total"])
