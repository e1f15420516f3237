"""What the worker counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CollectorRegistry

from services.worker.engine import Engine

_CANCEL_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_LOAD_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The worker's own metrics; vLLM's appear beside them in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = Counter(
            "headway_worker_requests",
            "Requests that ended, by how: completed, aborted, cancelled or a kind of failure",
            ["outcome"],
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "headway_worker_prompt_tokens", "Prompt tokens of requests begun", registry=registry
        )
        self.cached_tokens = Counter(
            "headway_worker_cached_tokens",
            "Prompt tokens that came from the prefix cache",
            registry=registry,
        )
        self.generated_tokens = Counter(
            "headway_worker_generated_tokens", "Tokens handed to callers", registry=registry
        )
        self.frames = Counter("headway_worker_frames", "Frames sent on pipes", registry=registry)
        self.joins = Counter(
            "headway_worker_joins", "Times that the worker joined a scheduler", registry=registry
        )
        self.adapter_load_seconds = Histogram(
            "headway_worker_adapter_load_seconds",
            "Time to load an adapter into the engine",
            buckets=_LOAD_BUCKETS,
            registry=registry,
        )
        self.cancel_seconds = Histogram(
            "headway_cancel_seconds",
            "Abort or disconnect to the engine's slot free",
            buckets=_CANCEL_BUCKETS,
            registry=registry,
        )

    def watch(self, engine: Engine) -> None:
        """Show the engine's load, read when it is asked for."""
        gauges = {
            "running_requests": "Requests that run in the engine",
            "waiting_requests": "Requests that wait in the engine",
            "queued_prefill_tokens": "Prompt tokens not yet computed",
            "kv_usage_ratio": "The used part of the KV cache, 0 to 1",
            "steps": "Engine steps since the start",
            "prefix_queried_tokens": "Prompt tokens asked of the prefix cache since the start",
            "prefix_hit_tokens": "Prompt tokens found in the prefix cache since the start",
        }
        fields = {
            "running_requests": "running",
            "waiting_requests": "waiting",
            "kv_usage_ratio": "kv_usage",
        }
        for name, text in gauges.items():
            gauge = Gauge(f"headway_worker_{name}", text, registry=self._registry)
            field = fields.get(name, name)
            gauge.set_function(lambda field=field: getattr(engine.load(), field))  # type: ignore[misc]
