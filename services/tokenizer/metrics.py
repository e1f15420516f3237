"""What the tokenizer counts, for Prometheus. observability/metrics.yaml lists the same."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.tokenizer.models import Models

_PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)


class Metrics:
    """All metrics of this service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_prompts = Histogram(
            "headway_tokenizer_batch_prompts",
            "Prompts that were encoded as one batch",
            buckets=_PROMPTS,
            registry=registry,
        )
        self.encode_seconds = Histogram(
            "headway_tokenizer_encode_seconds",
            "Rendering, encoding and hashing one prompt",
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "headway_tokenizer_tokens",
            "Token ids of encoded prompts",
            ["model"],
            registry=registry,
        )
        self.refused = Counter(
            "headway_tokenizer_refused", "Prompts refused", ["reason"], registry=registry
        )
        self._encoder = Gauge(
            "headway_tokenizer_encoder_info",
            "1 for the library that encodes for the model",
            ["model", "encoder"],
            registry=registry,
        )
        self._cache = Gauge(
            "headway_tokenizer_segment_cache_bytes",
            "Texts and ids in the cache of segments",
            ["model"],
            registry=registry,
        )

    def show(self, models: Models) -> None:
        """Show which library encodes for each model, and the size of its cache."""
        for model in models:
            encoder = model.vocabulary.encoder
            self._encoder.labels(model.name, encoder.name).set(1)
            self._cache.labels(model.name).set_function(encoder.cached_bytes)
