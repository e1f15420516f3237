"""A request's spans, recorded when it has ended."""

from opentelemetry.trace import SpanKind

from observability.telemetry import Telemetry, WallClock
from services.worker.relay import Running
from services.worker.stages import FirstTokenTimes


class Spans:
    """Records what a request did here, from times that were measured anyway."""

    def __init__(self, telemetry: Telemetry, clock: WallClock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    def record(self, running: Running, ended_s: float) -> None:
        """Record `worker.generate`, and the engine's phases below it."""
        traceparent = running.request.traceparent
        if not (traceparent and self._telemetry.exporting):
            return
        at = self._clock.at
        parent = self._telemetry.record(
            "worker.generate",
            traceparent,
            at(running.arrived_s),
            at(ended_s),
            _attributes(running, ended_s),
            kind=SpanKind.SERVER,
        )
        times = running.times
        if parent is None or times is None:
            return
        phases = (
            ("engine.queue", times.handed_s, times.scheduled_s),
            ("engine.prefill", times.scheduled_s, times.first_token_s),
            ("engine.decode", times.first_token_s, ended_s),
        )
        for name, start_s, end_s in phases:
            self._telemetry.record(name, parent, at(start_s), at(end_s))


def _attributes(running: Running, ended_s: float) -> dict[str, str | int | float | list[str]]:
    request = running.request
    attributes: dict[str, str | int | float | list[str]] = {
        "headway.request_id": request.request_id,
        "gen_ai.request.model": request.model,
        "gen_ai.usage.input_tokens": len(request.prompt),
        "gen_ai.usage.output_tokens": running.completion_tokens,
        "gen_ai.response.finish_reasons": running.finish_reasons,
        "headway.cached_tokens": running.cached_tokens,
    }
    if running.times is not None:
        attributes |= _latencies(running.times, ended_s)
    return attributes


def _latencies(times: FirstTokenTimes, ended_s: float) -> dict[str, float]:
    return {
        "gen_ai.latency.time_in_queue": times.scheduled_s - times.handed_s,
        "gen_ai.latency.time_in_model_prefill": times.first_token_s - times.scheduled_s,
        "gen_ai.latency.time_in_model_decode": ended_s - times.first_token_s,
        "gen_ai.latency.time_to_first_token": times.first_token_s - times.arrived_s,
    }
