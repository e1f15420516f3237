"""Where a request's time to first token went. Pure: times come in as monotonic seconds.

Each hop reports durations of its own clock; the edge times the round trips. What a hop did not
report of its round trip is network. The stages are contiguous, so their sum is the TTFT but
for what nobody measured: `unattributed`, which is shown and never spread over the others.
"""

from dataclasses import dataclass, field
from typing import Any

STAGES = (
    "edge_receive",
    "tokenizer_queue",
    "render",
    "tokenize",
    "tokenizer_network",
    "admission_queue",
    "place",
    "scheduler_network",
    "worker_ingress",
    "engine_queue",
    "prefill",
    "worker_egress",
    "worker_network",
    "edge_emit",
    "resume",
)


@dataclass(slots=True)
class Ledger:
    """One request's account. Written by the request's own task."""

    received_s: float
    stages: dict[str, float] = field(default_factory=dict)  # seconds
    total_s: float | None = None  # absent until the first content left

    def charge(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def charge_hop(self, network: str, round_trip_s: float, reported_us: dict[str, int]) -> None:
        """Add what a hop reported, in microseconds a stage; the rest of the trip is network."""
        for stage, spent_us in reported_us.items():
            self.charge(stage, spent_us / 1e6)
        self.charge(network, round_trip_s - sum(reported_us.values()) / 1e6)

    def lose(self, seconds: float) -> None:
        """Account for an attempt that a failed worker took with it."""
        self.charge("resume", seconds)

    def close(self, now_s: float) -> None:
        """The first content byte was handed to the client's socket."""
        self.total_s = now_s - self.received_s

    @property
    def unattributed_s(self) -> float:
        """What no stage explains. Zero before the first content."""
        return (self.total_s or 0.0) - sum(self.stages.values())

    def in_ms(self) -> dict[str, Any]:
        """The account as callers see it: milliseconds to a thousandth, stages in their order."""
        return {
            "total": _ms(self.total_s or 0.0),
            "stages": {stage: _ms(self.stages[stage]) for stage in STAGES if stage in self.stages},
            "unattributed": _ms(self.unattributed_s),
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
