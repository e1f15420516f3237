"""The HTTP door: metrics as ever; fleet and decisions as JSON, read on the core's own thread."""

import asyncio
import json
import threading
from typing import Any
from urllib.request import urlopen

import pytest

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler import admin
from services.scheduler.__main__ import serve_admin
from services.scheduler.admin import Admin
from services.scheduler.plain import plain
from tests.scheduler.clients import Edge, Running, item

Said = tuple[str, Any]


def ask(door: Admin, path: str, query: str = "", method: str = "GET") -> Said:
    """What a thread of the listener does."""
    status: list[str] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    body = door(environ, lambda said, _headers, _error=None: status.append(said))  # type: ignore[arg-type]
    return status[0], json.loads(b"".join(body))


def metrics(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b'"metrics"']


def door_to(fleet: Running) -> Admin:
    loop = asyncio.get_running_loop()
    return Admin(metrics, loop, fleet.service.workers, fleet.service.decisions)


async def test_workers_and_decisions_are_told(fleet: Running) -> None:
    await fleet.joined("a")
    edge = Edge(fleet.stub)
    await edge.asks(item("r"), item("s"))
    await edge.asks(finished=[pb.FinishRequest(request_id="r", actual_ttft_ms=3)])
    door = door_to(fleet)
    status, said = await asyncio.to_thread(ask, door, "/headway/decisions", "limit=2")
    assert status == "200 OK"
    newest, older = said["decisions"]
    assert (newest["request_id"], newest["actual_ttft_ms"]) == ("s", None)
    assert (older["request_id"], older["actual_ttft_ms"]) == ("r", 3.0)
    assert [each["worker_id"] for each in older["considered"]] == ["a"]
    status, said = await asyncio.to_thread(ask, door, "/headway/workers")
    [worker] = said["workers"]
    assert (worker["hello"]["kind"], worker["placed_requests"]) == ("generate", 1)
    _, said = await asyncio.to_thread(ask, door, "/headway/workers", "model=other")
    assert said["workers"] == []


async def test_by_http_beside_the_metrics(fleet: Running) -> None:
    await fleet.joined("a")
    server = serve_admin("127.0.0.1:0", fleet.service)
    assert server is not None

    def read(path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body

    try:
        workers = json.loads(await asyncio.to_thread(read, "/headway/workers"))
        assert [worker["hello"]["worker_id"] for worker in workers["workers"]] == ["a"]
        assert json.loads(await asyncio.to_thread(read, "/headway/decisions"))["decisions"] == []
        assert b"# HELP" in await asyncio.to_thread(read, "/metrics")
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


async def test_the_core_is_read_on_its_own_thread_only() -> None:
    threads: list[threading.Thread] = []

    def workers(model: str) -> pb.ListWorkersResponse:
        threads.append(threading.current_thread())
        return pb.ListWorkersResponse()

    loop = asyncio.get_running_loop()
    door = Admin(metrics, loop, workers, lambda _: pb.ListDecisionsResponse())
    await asyncio.to_thread(ask, door, "/headway/workers")
    assert threads == [threading.main_thread()]


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        pytest.param("", 0, id="none said: as the service likes"),
        pytest.param("limit=7", 7, id="fewer"),
        pytest.param("limit=200", 200, id="the most"),
    ],
)
async def test_as_many_decisions_as_asked_up_to_a_bound(query: str, limit: int) -> None:
    limits: list[int] = []

    def decisions(limit: int) -> pb.ListDecisionsResponse:
        limits.append(limit)
        return pb.ListDecisionsResponse()

    loop = asyncio.get_running_loop()
    door = Admin(metrics, loop, lambda _: pb.ListWorkersResponse(), decisions)
    await asyncio.to_thread(ask, door, "/headway/decisions", query)
    assert limits == [limit]


@pytest.mark.parametrize(
    ("path", "query", "method", "status"),
    [
        pytest.param("/headway/decisions", "limit=x", "GET", "400", id="no number"),
        pytest.param("/headway/decisions", "limit=-1", "GET", "400", id="below zero"),
        pytest.param("/headway/decisions", "limit=201", "GET", "400", id="more than are told"),
        pytest.param("/headway/decisions", "limit=" + "9" * 5000, "GET", "400", id="many digits"),
        pytest.param("/headway/other", "", "GET", "404", id="no such door"),
        pytest.param("/headway/workers", "", "POST", "405", id="only to read"),
    ],
)
async def test_what_cannot_be_answered(
    fleet: Running, path: str, query: str, method: str, status: str
) -> None:
    said, answer = await asyncio.to_thread(ask, door_to(fleet), path, query, method)
    assert said.startswith(status)
    assert set(answer) == {"error"}


async def test_elsewhere_are_the_metrics(fleet: Running) -> None:
    assert ask(door_to(fleet), "/metrics") == ("200 OK", "metrics")


async def test_a_loop_that_is_busy_is_said_so(
    fleet: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "LOOP_S", 0.0)
    status, _ = ask(door_to(fleet), "/headway/workers")  # from the loop itself: it cannot answer
    assert status.startswith("503")


def test_a_scheduler_that_ends_is_said_so() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    door = Admin(
        metrics, loop, lambda _: pb.ListWorkersResponse(), lambda _: pb.ListDecisionsResponse()
    )
    assert ask(door, "/headway/workers")[0].startswith("503")


def test_a_message_in_plain_values() -> None:
    record = pb.DecisionRecord(request_id="r", waited_us=2**40, actual_ttft_ms=0.1)
    said = plain(record)
    assert (said["request_id"], said["waited_us"], said["actual_ttft_ms"]) == ("r", 2**40, 0.1)
    assert said["decision"] is None
    assert said["considered"] == []
    assert plain(pb.Hello(kind=pb.WORKER_KIND_EMBED, models=["m"]))["kind"] == "embed"
