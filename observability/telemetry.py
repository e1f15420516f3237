"""Spans, logs and the metrics listener, set up once by each service's `__main__`.

Spans are recorded after the fact, from durations that the service measured anyway: nothing is
made for a request that is not sampled, and no context variable is touched on the hot path.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a service needs to record spans. `exporting` is false when nobody collects them."""

    tracer: Tracer
    exporting: bool
    _provider: TracerProvider | None

    def close(self) -> None:
        """Send what is left. Blocks for some seconds at most."""
        if self._provider is not None:
            self._provider.shutdown()

    def start(self, name: str, traceparent: str, start_ns: int) -> Span | None:
        """Begin a request's root span, below the caller's `traceparent` where that is valid.

        Returns None when nobody collects, or the sampler or the caller chose not to sample.
        The caller ends the span.
        """
        if not self.exporting:
            return None
        span = self.tracer.start_span(
            name, read_traceparent(traceparent), kind=SpanKind.SERVER, start_time=start_ns
        )
        return span if span.is_recording() else None

    def record(
        self,
        name: str,
        parent: str | Context,
        start_ns: int,
        end_ns: int,
        attributes: Attributes | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Context | None:
        """Record a span that has ended; times are wall-clock nanoseconds.

        `parent` is a W3C traceparent, or what `record` returned for the parent span. Returns
        the context for the span's children, or None when nothing was recorded because nobody
        collects or the request is not sampled.
        """
        context = read_traceparent(parent) if isinstance(parent, str) else parent
        if not self.exporting or context is None or not _sampled(context):
            return None
        span = self.tracer.start_span(
            name, context=context, kind=kind, attributes=attributes, start_time=start_ns
        )
        span.end(end_time=end_ns)
        return trace.set_span_in_context(span)


def start_telemetry(service: str, env: Mapping[str, str]) -> Telemetry:
    """Export spans over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, else make none.

    The SDK reads its other `OTEL_…` variables by itself: headers, sampling, batch sizes.
    """
    if not env.get(ENDPOINT):
        return Telemetry(trace.NoOpTracer(), exporting=False, _provider=None)
    provider = TracerProvider(resource=Resource.create({"service.name": f"headway-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Telemetry(provider.get_tracer("headway"), exporting=True, _provider=provider)


def read_traceparent(traceparent: str) -> Context | None:
    """The context that a W3C traceparent names; None for any other text.

    Source of the format: W3C Trace Context, section 3.2.
    """
    parts = traceparent.split("-")
    if [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    version, trace_id, span_id, flags = parts[:4]
    # Version 00 ends here; later versions may go on, and ff is forbidden.
    if version == "ff" or (version == "00" and len(parts) > 4):
        return None
    try:
        parent = SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(int(flags, 16)),
        )
    except ValueError:
        return None
    if not parent.is_valid:
        return None
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def read_trace_id(traceparent: str) -> str | None:
    """The trace id that a W3C traceparent names; None for any other text."""
    context = read_traceparent(traceparent)
    if context is None:
        return None
    return f"{trace.get_current_span(context).get_span_context().trace_id:032x}"


def write_traceparent(span: Span) -> str:
    """The W3C traceparent that names `span` as the parent."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _sampled(context: Context) -> bool:
    return trace.get_current_span(context).get_span_context().trace_flags.sampled


class WallClock:
    """Turns monotonic readings into wall-clock nanoseconds, for the times of spans."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def at(self, monotonic_s: float) -> int:
        """The wall-clock time of a `time.monotonic()` reading."""
        return int(monotonic_s * 1e9) + self._offset_ns


def start_logs(service: str) -> structlog.stdlib.BoundLogger:
    """JSON lines on standard error, each with the service's name. Never prompt text."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(service=service)
    return logger


def _as_json(event: structlog.typing.EventDict, default: Callable[[Any], Any]) -> bytes:
    return msgspec.json.encode(event, enc_hook=default)
