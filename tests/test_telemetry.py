import json
import time
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from observability.telemetry import (
    Telemetry,
    WallClock,
    read_traceparent,
    start_logs,
    start_telemetry,
    write_traceparent,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(spans: InMemorySpanExporter) -> Iterator[Telemetry]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = Telemetry(provider.get_tracer("test"), exporting=True, _provider=provider)
    yield telemetry
    telemetry.close()


def test_a_span_lies_below_the_callers(telemetry: Telemetry, spans: InMemorySpanExporter) -> None:
    below = telemetry.record("hop", SAMPLED, 1_000, 3_000, {"a": 1}, SpanKind.SERVER)
    assert below is not None
    telemetry.record("stage", below, 1_500, 2_000)
    hop, stage = spans.get_finished_spans()
    assert (hop.name, hop.start_time, hop.end_time, hop.kind) == (
        "hop",
        1_000,
        3_000,
        SpanKind.SERVER,
    )
    assert hop.attributes == {"a": 1}
    assert f"{hop.context.trace_id:032x}" == TRACE
    assert hop.parent is not None
    assert f"{hop.parent.span_id:016x}" == PARENT
    assert stage.parent is not None
    assert stage.parent.span_id == hop.context.span_id
    assert stage.context.trace_id == hop.context.trace_id


@pytest.mark.parametrize("traceparent", ["", "nonsense", UNSAMPLED])
def test_what_is_not_sampled_is_not_recorded(
    telemetry: Telemetry, spans: InMemorySpanExporter, traceparent: str
) -> None:
    assert telemetry.record("hop", traceparent, 1, 2) is None
    assert spans.get_finished_spans() == ()


def test_a_root_has_no_parent_without_the_callers_trace(
    telemetry: Telemetry, spans: InMemorySpanExporter
) -> None:
    span = telemetry.start("root", "", 1_000)
    assert span is not None
    span.end(2_000)
    [root] = spans.get_finished_spans()
    assert root.parent is None


def test_the_callers_choice_not_to_sample_is_honoured(telemetry: Telemetry) -> None:
    assert telemetry.start("root", UNSAMPLED, 1_000) is None


def test_a_traceparent_names_the_span(telemetry: Telemetry) -> None:
    span = telemetry.start("root", SAMPLED, 1_000)
    assert span is not None
    context = read_traceparent(write_traceparent(span))
    assert context is not None
    assert trace.get_current_span(context).get_span_context().span_id == (
        span.get_span_context().span_id
    )
    assert write_traceparent(span).startswith(f"00-{TRACE}-")


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param("", id="empty"),
        pytest.param(f"00-{TRACE}-{PARENT}", id="cut-short"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", id="forbidden-version"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", id="version-00-ends-here"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="no-trace-id"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no-span-id"),
        pytest.param(f"00-{'g' * 32}-{PARENT}-01", id="not-hexadecimal"),
        pytest.param(f"00-{TRACE}-{PARENT}-1", id="short-flags"),
    ],
)
def test_no_traceparent(traceparent: str) -> None:
    assert read_traceparent(traceparent) is None


def test_a_later_version_may_go_on() -> None:
    assert read_traceparent(f"cc-{TRACE}-{PARENT}-01-what-comes") is not None


def test_nothing_is_recorded_when_nobody_collects() -> None:
    telemetry = start_telemetry("room", {})
    assert not telemetry.exporting
    assert telemetry.record("hop", SAMPLED, 1, 2) is None
    assert telemetry.start("root", SAMPLED, 1) is None
    telemetry.close()


def test_the_wall_clock_agrees_with_the_systems() -> None:
    before = time.time_ns()
    told = WallClock().at(time.monotonic())
    assert before - 10**6 <= told <= time.time_ns() + 10**6


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_as_before")
def test_logs_are_json_lines_that_name_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    start_logs("room").info("something happened", count=3)
    [line] = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert {key: said[key] for key in ("service", "event", "count", "level")} == {
        "service": "room",
        "event": "something happened",
        "count": 3,
        "level": "info",
    }
