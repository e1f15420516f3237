"""The service around the core: health, reflection, metrics, spans, start and end."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import generate_latest

from headway.scheduler.v1 import scheduler_pb2 as pb
from observability.telemetry import Telemetry
from services.scheduler.server import SERVICE
from tests.scheduler.clients import Edge, Running, item, place_request
from tests.scheduler.conftest import running

SAMPLED = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
UNSAMPLED = SAMPLED[:-2] + "00"


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health(fleet: Running, service: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(fleet.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection(fleet: Running) -> None:
    channel: Any = fleet.channel  # the stubs know no asyncio
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {one.name for one in (await call.read()).list_services_response.service}
    await call.done_writing()
    assert SERVICE in names


async def test_metrics_tell_what_happened(fleet: Running) -> None:
    worker = await fleet.joined("a")
    timing = pb.PrefillTiming(request_id="x", computed_tokens=5, prefill_us=7)
    await worker.say(report=pb.Report(prefills=[timing]))
    await fleet.until(lambda workers: workers["a"].HasField("report"))
    edge = Edge(fleet.stub)
    await edge.asks(item("r"), item("s", model="x"))
    await edge.asks(finished=[pb.FinishRequest(request_id="r", actual_ttft_ms=3)])
    text = generate_latest(fleet.registry).decode()
    labels = '{outcome="%s",policy="predicted"}'
    assert f"headway_scheduler_placements_total{labels % 'placed'} 1.0" in text
    assert f"headway_scheduler_placements_total{labels % 'unknown_model'} 1.0" in text
    assert "headway_scheduler_place_seconds_count 2.0" in text
    assert "headway_scheduler_prediction_error_seconds_count 1.0" in text
    assert "headway_scheduler_prediction_ratio_count 1.0" in text


async def test_figures_of_state_are_shown(fleet: Running) -> None:
    await fleet.joined("a")
    await fleet.joined("b")
    await fleet.stub.DrainWorker(pb.DrainWorkerRequest(worker_id="b"))
    line = 'headway_scheduler_workers{model="m",state="%s"} 1.0'
    async with asyncio.timeout(5):
        while line % "draining" not in generate_latest(fleet.registry).decode():
            await fleet.workers()
    text = generate_latest(fleet.registry).decode()
    assert line % "ready" in text
    assert "headway_scheduler_queued_requests 0.0" in text
    assert "headway_scheduler_index_blocks 0.0" in text
    assert "headway_scheduler_index_entries 0.0" in text


async def test_a_sampled_request_leaves_two_spans() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider.get_tracer("x"), exporting=True, _provider=provider)
    async with running(telemetry) as fleet:
        await fleet.joined("a")
        edge = Edge(fleet.stub)
        await edge.asks(
            item("sampled", traceparent=SAMPLED),
            item("unsampled", traceparent=UNSAMPLED),
            item("untraced"),
        )
    place, queue = exporter.get_finished_spans()
    assert (place.name, queue.name) == ("scheduler.place", "scheduler.admission_queue")
    assert place.kind is SpanKind.SERVER
    assert place.parent is not None
    assert queue.parent is not None
    assert f"{place.parent.span_id:016x}" == SAMPLED.split("-")[2]
    assert queue.parent.span_id == place.context.span_id
    assert place.attributes is not None
    assert place.attributes["gen_ai.request.model"] == "m"
    assert place.attributes["headway.worker"] == "a"


async def test_streams_end_with_the_service() -> None:
    async with running() as fleet:
        worker = await fleet.joined("a")
        edge = Edge(fleet.stub)
        await edge.asks(item())
        watching = fleet.stub.WatchFleet(pb.WatchFleetRequest())
        await watching.read()
        fleet.service.close()
        assert (await worker.ends())[0] is grpc.StatusCode.UNAVAILABLE
        assert await edge.call.code() is grpc.StatusCode.UNAVAILABLE
        assert await watching.code() is grpc.StatusCode.UNAVAILABLE
        late = Edge(fleet.stub)
        assert await late.call.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_peer_that_does_not_read_is_not_read_either(fleet: Running) -> None:
    await fleet.joined("a")
    edge = Edge(fleet.stub)
    big = [item(f"r{n}", model="x" * 1000) for n in range(100)]
    for _ in range(5):
        await edge.send(*big)
    assert (await fleet.stub.Place(place_request())).worker_id == "a"
    assert [(await edge.hears()).batch for _ in range(5)] == [1, 2, 3, 4, 5]


def start(**settings: str) -> "subprocess.Popen[str]":
    """The service as people start it."""
    env = os.environ | {"SCHEDULER_LISTEN": "127.0.0.1:0"} | settings
    command = [sys.executable, "-m", "services.scheduler"]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def test_sigterm_ends_it_well() -> None:
    with start(SCHEDULER_METRICS_LISTEN="127.0.0.1:0") as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(10) == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"SCHEDULER_POLICY": "best"}, id="a-wrong-setting"),
        pytest.param({"SCHEDULER_LISTEN": "203.0.113.1:1"}, id="an-address-of-others"),
        pytest.param({"SCHEDULER_METRICS_LISTEN": "nowhere"}, id="no-address"),
        pytest.param({"SCHEDULER_RECORD": "/nowhere/file"}, id="no-such-place"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line(settings: dict[str, str]) -> None:
    with start(**settings) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    (line,) = errors.strip().splitlines()
    assert line.startswith("scheduler: ")
