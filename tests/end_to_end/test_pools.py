"""Two pools of chat workers, one of them with adapters, behind one edge and one scheduler."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from headway.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceStub
from tests.end_to_end.asking import ask, chat
from tests.system import free_port, system

POOLS = {"left": "poet", "right": ""}
WORKERS = {pool: {f"{pool}-0", f"{pool}-1"} for pool in POOLS}
LOAD_MS = 150
TEMPLATE = 16  # the block that all conversations with one model or adapter begin with
# More than a block of 16 tokens, so that there is something to cache.
LONG = "Tell me, in as many words as you like, about the sea, the sky, the hills and the plains. "


@dataclass(frozen=True)
class Fleet:
    """The edge's client and the scheduler's stub."""

    client: httpx.Client
    scheduler: SchedulerServiceStub

    def worker(self, worker_id: str) -> pb.WorkerStatus:
        """A worker as the scheduler sees it."""
        listed = self.scheduler.ListWorkers(pb.ListWorkersRequest()).workers
        [found] = [each for each in listed if each.hello.worker_id == worker_id]
        return found

    def busy(self, of: set[str]) -> list[str]:
        """Those of these workers that have requests, as the scheduler sees it."""
        return [each for each in sorted(of) if self.worker(each).placed_requests]

    def workers_of(self, model: str, count: int, prefix: str = "") -> list[str]:
        """Where so many requests went that were sent at once."""
        with ThreadPoolExecutor(count) as pool:
            asked = [
                pool.submit(chat, self.client, f"{prefix}Number {n}.", model=model, max_tokens=4)
                for n in range(count)
            ]
            return [each.result()["headway"]["worker"] for each in asked]


@contextmanager
def service(name: str, home: Path, **settings: object) -> Iterator[None]:
    env = {f"{name.upper()}_{key.upper()}": str(value) for key, value in settings.items()}
    number = len(list(home.iterdir()))
    with (home / f"{name}-{number}").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"],
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def two_pools(model: Path, home: Path) -> Iterator[Fleet]:
    ports = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    tokenizer, scheduler, edge = ports
    with ExitStack() as stack:
        run = stack.enter_context
        run(service("scheduler", home, listen=scheduler))
        names = ";".join(f"{pool}={model}" for pool in POOLS)
        run(service("tokenizer", home, listen=tokenizer, models=names))
        for worker_id in sorted(WORKERS["left"] | WORKERS["right"]):
            pool = worker_id.partition("-")[0]
            run(
                service(
                    "worker",
                    home,
                    id=worker_id,
                    listen="127.0.0.1:0",
                    engine="sim",
                    sim=f"base_ms=15,adapter_load_ms={LOAD_MS}",
                    model=model,
                    model_names=pool,
                    scheduler=scheduler,
                    adapters=POOLS[pool],
                )
            )
        pools = ",".join(POOLS)
        run(
            service(
                "edge", home, listen=edge, tokenizers=tokenizer, scheduler=scheduler, pools=pools
            )
        )
        client = run(httpx.Client(base_url=f"http://{edge}", timeout=30))
        channel = run(grpc.insecure_channel(scheduler))
        fleet = Fleet(client, SchedulerServiceStub(channel))
        _until(lambda: _is_complete(fleet))
        yield fleet


def _is_complete(fleet: Fleet) -> bool:
    try:
        ready = fleet.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
    return ready and len(fleet.scheduler.ListWorkers(pb.ListWorkersRequest()).workers) == 4


def _until(holds: Any) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.fixture(scope="module")
def fleet(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with two_pools(demo_model, tmp_path_factory.mktemp("pools")) as running:
        yield running


@pytest.mark.parametrize("model", POOLS)
def test_placement_never_crosses_pools(fleet: Fleet, model: str) -> None:
    assert set(fleet.workers_of(model, 24)) <= WORKERS[model]


def test_one_pools_cache_is_not_the_others(fleet: Fleet) -> None:
    first = chat(fleet.client, LONG * 3, model="left", max_tokens=2)
    again = chat(fleet.client, LONG * 3, model="left", max_tokens=2)
    other = chat(fleet.client, LONG * 3, model="right", max_tokens=2)
    cached = [each["headway"]["cached_tokens"] for each in (first, again, other)]
    assert max(cached[0], cached[2]) <= TEMPLATE < cached[1]
    assert other["headway"]["placement"]["cached_tokens"] <= TEMPLATE


def test_an_adapter_is_listed_with_its_parent(fleet: Fleet) -> None:
    listed = fleet.client.get("/v1/models").json()["data"]
    parents = {model["id"]: model.get("parent") for model in listed}
    assert parents == {"left": None, "poet": "left", "right": None}


def test_a_burst_for_an_adapter_loads_it_on_one_worker_alone(fleet: Fleet) -> None:
    workers = fleet.workers_of("poet", 6)
    assert len(set(workers)) == 1
    assert set(workers) < WORKERS["left"]
    _until(lambda: fleet.worker(workers[0]).report.loaded_adapters == ["poet"])
    [other] = WORKERS["left"] - set(workers)
    assert fleet.worker(other).report.loaded_adapters == []
    assert set(fleet.workers_of("poet", 3, "Later. ")) == set(workers)


def test_an_adapter_shares_no_cache_with_its_model(fleet: Fleet) -> None:
    prompt = "For the poet. " + LONG * 3
    base = chat(fleet.client, prompt, model="left", max_tokens=8)
    poet = chat(fleet.client, prompt, model="poet", max_tokens=8)
    assert poet["headway"]["placement"]["cached_tokens"] <= TEMPLATE
    assert poet["headway"]["cached_tokens"] <= TEMPLATE
    assert poet["model"] == "poet"
    texts = [each["choices"][0]["message"]["content"] for each in (base, poet)]
    assert texts[0] != texts[1]


def test_an_unknown_name_is_told_the_known_ones(fleet: Fleet) -> None:
    response = fleet.client.post("/v1/chat/completions", json=ask("Hello", model="up"))
    assert response.status_code == 404
    assert "left, poet, right" in response.json()["error"]["message"]


def test_a_drained_worker_finishes_and_its_pool_goes_on_without_it(fleet: Fleet) -> None:
    body = ask(LONG, model="left", max_tokens=40, stream=True)
    with fleet.client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        # The scheduler may not have heard yet that an earlier request is over.
        _until(lambda: len(fleet.busy(WORKERS["left"])) == 1)
        [busy] = fleet.busy(WORKERS["left"])
        fleet.scheduler.DrainWorker(pb.DrainWorkerRequest(worker_id=busy))
        [left] = WORKERS["left"] - {busy}
        assert set(fleet.workers_of("left", 8, "Drained. ")) == {left}
        assert set(fleet.workers_of("poet", 4, "Drained. ")) == {left}
        assert set(fleet.workers_of("right", 8, "Drained. ")) <= WORKERS["right"]
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [event["choices"][0]["finish_reason"] for event in events][-1] == "length"
    # The client has its last frame before the scheduler hears that the request is over.
    _until(lambda: fleet.worker(busy).placed_requests == 0)

    fleet.scheduler.DrainWorker(pb.DrainWorkerRequest(worker_id=left))
    _until(lambda: fleet.client.get("/readyz").status_code == 503)
    for model, status in (("left", 503), ("poet", 503), ("right", 200)):
        asked = fleet.client.post("/v1/chat/completions", json=ask("Hi", model=model, max_tokens=2))
        assert asked.status_code == status, model
    assert {model["id"] for model in fleet.client.get("/v1/models").json()["data"]} == {"right"}


def test_headway_drain_takes_a_worker_out(demo_model: Path, tmp_path: Path) -> None:
    with (
        system(tmp_path, "--engine", "sim", "--workers", "2", "--adapter", "poet=any") as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        first = chat(client, "Hello.", max_tokens=2)["headway"]["worker"]
        drained = running.headway("drain", first)
        assert drained.stdout == f"{first} is draining; it still has 0 requests to finish\n"
        answers = [
            chat(client, "Hello.", model=model, max_tokens=2) for model in ("smollm2", "poet") * 3
        ]
        assert first not in {each["headway"]["worker"] for each in answers}
        unknown = running.headway("drain", "worker-9")
    assert unknown.returncode == 1
    assert "worker-9" in unknown.stderr
