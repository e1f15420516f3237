"""The scheduler's metrics. Figures of state are read once a second, by the ticker."""

from collections import Counter as Tally

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import REGISTRY, CollectorRegistry

from services.scheduler.outcomes import (
    AlreadyWaiting,
    DeadlinePassed,
    FleetEmpty,
    Placed,
    QueueFull,
    Settled,
    TooLarge,
    UnknownModel,
)
from services.scheduler.scheduler import Scheduler

PLACE_SECONDS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ERROR_SECONDS = (-10, -3, -1, -0.3, -0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

OUTCOMES: dict[type[Settled], str] = {
    Placed: "placed",
    AlreadyWaiting: "already_waiting",
    UnknownModel: "unknown_model",
    FleetEmpty: "fleet_empty",
    TooLarge: "too_large",
    QueueFull: "queue_full",
    DeadlinePassed: "deadline_passed",
}


class Metrics:
    """Counts what the scheduler decides and shows what it holds."""

    def __init__(self, policy: str, registry: CollectorRegistry = REGISTRY) -> None:
        placements = Counter(
            "headway_scheduler_placements",
            "Requests answered",
            ["policy", "outcome"],
            registry=registry,
        )
        self._placements = {
            outcome: placements.labels(policy, name) for outcome, name in OUTCOMES.items()
        }
        self._place = Histogram(
            "headway_scheduler_place_seconds",
            "Time of one decision",
            buckets=PLACE_SECONDS,
            registry=registry,
        )
        self._wait = Histogram(
            "headway_scheduler_admission_queue_seconds",
            "Time that placed requests waited for capacity",
            buckets=WAIT_SECONDS,
            registry=registry,
        )
        self._error = Histogram(
            "headway_scheduler_prediction_error_seconds",
            "Predicted less actual time to first token",
            buckets=ERROR_SECONDS,
            registry=registry,
        )
        self._ratio = Histogram(
            "headway_scheduler_prediction_ratio",
            "Predicted over actual time to first token",
            buckets=RATIOS,
            registry=registry,
        )
        self.recorded = Counter(
            "headway_scheduler_recorded_entries",
            "Entries written to the recording",
            registry=registry,
        )
        self.record_drops = Counter(
            "headway_scheduler_record_drops",
            "Entries that are missing in the recording",
            registry=registry,
        )
        self._queued = Gauge(
            "headway_scheduler_queued_requests", "Requests that wait now", registry=registry
        )
        self._workers = Gauge(
            "headway_scheduler_workers",
            "Live workers",
            ["model", "state"],
            registry=registry,
        )
        self._blocks = Gauge(
            "headway_scheduler_index_blocks", "Distinct blocks in the index", registry=registry
        )
        self._entries = Gauge(
            "headway_scheduler_index_entries",
            "Pairs of a block and a worker in the index",
            registry=registry,
        )

    def answered(self, outcome: Settled, place_s: float) -> None:
        """A request got its answer."""
        self._placements[type(outcome)].inc()
        self._place.observe(place_s)
        if isinstance(outcome, Placed):
            self._wait.observe(outcome.waited_s)

    def predicted(self, error_s: float, actual_s: float) -> None:
        """A prediction can be compared with what came true: it was off by `error_s`."""
        self._error.observe(error_s)
        if actual_s > 0:
            self._ratio.observe((actual_s + error_s) / actual_s)

    def observe(self, core: Scheduler) -> None:
        """Show what the scheduler holds now."""
        self._queued.set(len(core.queue))
        self._blocks.set(core.index.blocks)
        self._entries.set(core.index.entries)
        states = Tally(
            (member.hello.models[0], "draining" if member.draining else "ready")
            for member in core.fleet.members()
        )
        self._workers.clear()
        for (model, state), count in states.items():
            self._workers.labels(model, state).set(count)
