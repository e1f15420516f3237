"""One batch, from messages to results: a job for one thread, away from the event loop."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from headway.tokenizer.v1 import tokenizer_pb2 as pb
from observability.telemetry import Telemetry, WallClock
from services.tokenizer.encoding import Report, encode
from services.tokenizer.metrics import Metrics
from services.tokenizer.models import Model, Models
from services.tokenizer.outcomes import Encoded
from services.tokenizer.wire import read_prompt, write_result

# What a brief batch may be, in bytes of its messages; a prompt and each of its messages cost as
# much as so many bytes of text. docs/benchmarks/tokenizer.md has the measurements.
BRIEF_BYTES = 4096
BRIEF_PROMPTS = 4
MESSAGE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is done: its results, and what they were made of."""

    messages: Sequence[pb.EncodeRequest]
    reports: Sequence[Report]
    results: Sequence[pb.EncodeResult]
    received_ns: int
    answered_ns: int


class Encodings:
    """Encodes batches, counts them, and records their spans."""

    def __init__(self, models: Models, metrics: Metrics, telemetry: Telemetry) -> None:
        self.models = models
        self._metrics = metrics
        self._tokens = {model.name: metrics.tokens.labels(model.name) for model in models}
        self._telemetry = telemetry
        self._wall = WallClock()

    def encode(self, messages: Sequence[pb.EncodeRequest], received_ns: int) -> Batch:
        """Encode a batch that came in at `received_ns`, a reading of the monotonic clock."""
        reports = [
            encode(read_prompt(message), self.models, time.monotonic_ns) for message in messages
        ]
        answered_ns = time.monotonic_ns()
        results = [write_result(report, received_ns, answered_ns) for report in reports]
        batch = Batch(messages, reports, results, received_ns, answered_ns)
        self._count(batch)
        return batch

    def is_brief(self, messages: Sequence[pb.EncodeRequest]) -> bool:
        """Whether a thread would cost more than the encoding: under 0.2 ms, for most texts."""
        return len(messages) <= BRIEF_PROMPTS and sum(map(self._size, messages)) <= BRIEF_BYTES

    def _size(self, message: pb.EncodeRequest) -> int:
        model = self.models.find(message.model)
        slowness = model.vocabulary.encoder.slowness if isinstance(model, Model) else 1
        headers = 1 + len(message.chat.messages)
        return slowness * message.ByteSize() + headers * MESSAGE_BYTES

    def is_sampled(self, batch: Batch) -> bool:
        """Whether `record` has anything to do."""
        return self._telemetry.exporting and any(message.traceparent for message in batch.messages)

    def record(self, batch: Batch) -> None:
        """Record the spans of the prompts that are sampled."""
        for message, report, result in zip(
            batch.messages, batch.reports, batch.results, strict=True
        ):
            if message.traceparent:
                self._record(message, report, result, batch)

    def _count(self, batch: Batch) -> None:
        self._metrics.batch_prompts.observe(len(batch.messages))
        for report, result in zip(batch.reports, batch.results, strict=True):
            if isinstance(report.outcome, Encoded):
                self._metrics.encode_seconds.observe((report.ended_ns - report.started_ns) / 1e9)
                self._tokens[report.outcome.model].inc(report.outcome.tokens)
            else:
                self._metrics.refused.labels(_reason(result)).inc()

    def _record(
        self, message: pb.EncodeRequest, report: Report, result: pb.EncodeResult, batch: Batch
    ) -> None:
        parent = self._telemetry.record(
            "tokenizer.encode",
            message.traceparent,
            self._at(batch.received_ns),
            self._at(batch.answered_ns),
            _attributes(message, report, result, len(batch.messages)),
            SpanKind.SERVER,
        )
        if parent is None:
            return
        stages = {
            "tokenizer.queue": (batch.received_ns, report.started_ns),
            "tokenizer.render": (report.started_ns, report.rendered_ns),
            "tokenizer.tokenize": (report.rendered_ns, report.ended_ns),
        }
        for name, (start_ns, end_ns) in stages.items():
            self._telemetry.record(name, parent, self._at(start_ns), self._at(end_ns))

    def _at(self, monotonic_ns: int) -> int:
        return self._wall.at(monotonic_ns / 1e9)


def _attributes(
    message: pb.EncodeRequest, report: Report, result: pb.EncodeResult, prompts: int
) -> dict[str, AttributeValue]:
    common: dict[str, AttributeValue] = {
        "gen_ai.request.model": message.model,
        "headway.batch_prompts": prompts,
    }
    if isinstance(report.outcome, Encoded):
        return {**common, "gen_ai.usage.input_tokens": report.outcome.tokens}
    return {**common, "error.type": _reason(result)}


def _reason(result: pb.EncodeResult) -> str:
    name = pb.RefusalReason.Name(result.refused.reason)
    return name.removeprefix("REFUSAL_REASON_").lower()
