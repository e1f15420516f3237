"""A request's spans."""

from dataclasses import replace

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from observability.telemetry import Telemetry, WallClock
from services.worker.engine import Sampling
from services.worker.relay import Running
from services.worker.requests import Accepted, Request
from services.worker.spans import Spans
from services.worker.stages import FirstTokenTimes

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = Request(
    request_id="r", model="main", prompt=[1, 2], sampling=Sampling(), traceparent=SAMPLED
)


def recorded(running: Running) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider.get_tracer("test"), exporting=True, _provider=provider)
    Spans(telemetry, WallClock()).record(running, ended_s=104.0)
    return exporter


def ran(request: Request = REQUEST) -> Running:
    running = Running(Accepted(request, 5), [], arrived_s=100.0)
    running.times = FirstTokenTimes(100.0, 100.5, 101.0, 103.0)
    running.completion_tokens = 5
    running.finish_reasons = ["length"]
    return running


def test_the_engines_phases_are_below_the_request() -> None:
    spans = {span.name: span for span in recorded(ran()).get_finished_spans()}
    parent = spans["worker.generate"]
    assert parent.parent is not None
    assert f"{parent.parent.span_id:016x}" == "b7ad6b7169203331"
    durations = {}
    for name in ("engine.queue", "engine.prefill", "engine.decode"):
        span = spans[name]
        assert span.parent is not None
        assert span.parent.span_id == parent.context.span_id
        durations[name] = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    assert durations == {"engine.queue": 0.5, "engine.prefill": 2.0, "engine.decode": 1.0}
    attributes = dict(parent.attributes or {})
    assert attributes["gen_ai.usage.output_tokens"] == 5
    assert attributes["gen_ai.latency.time_to_first_token"] == 3.0


def test_a_request_that_never_began_has_no_phases() -> None:
    running = ran()
    running.times = None
    assert len(recorded(running).get_finished_spans()) == 1


def test_what_is_not_sampled_is_not_recorded() -> None:
    assert recorded(ran(replace(REQUEST, traceparent=""))).get_finished_spans() == ()
