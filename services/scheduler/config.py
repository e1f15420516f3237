"""The settings of the scheduler."""

from dataclasses import dataclass

from services.scheduler.placement import POLICIES
from services.scheduler.shares import read_weights

POSITIVE = (
    "worker_ttl_s",
    "heartbeat_ms",
    "queue_limit",
    "index_limit",
    "index_every",
    "lease_ms",
    "record_limit_mb",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Read once, in `__main__`, from the variables `SCHEDULER_…`."""

    listen: str = "127.0.0.1:50052"
    metrics_listen: str = ""  # empty: no metrics listener
    policy: str = "predicted"
    worker_ttl_s: float = 3.0  # a worker silent for so long is out of the fleet
    heartbeat_ms: int = 1000  # the longest time between two reports of a worker
    queue_limit: int = 1024  # requests that may wait
    index_limit: int = 1_000_000  # distinct blocks in the prefix index, at most 100 bytes each
    index_every: int = 1  # of so many blocks one is indexed, chosen by its hash
    lease_ms: int = 60_000  # a placement made by hand is forgotten after this
    record: str = ""  # file to record traffic in; empty: none
    record_limit_mb: int = 256  # of that file and the older one together
    weights: tuple[str, ...] = ()  # TENANT=WEIGHT; who is not named weighs 1
    seed: int = 0  # of the policy `random`
    drain_s: float = 5.0  # what running calls get at the end

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            known = ", ".join(POLICIES)
            raise ValueError(f"SCHEDULER_POLICY must be one of {known}, got {self.policy!r}")
        read_weights(self.weights)
        for name in POSITIVE:
            _positive(name, getattr(self, name))
        if self.drain_s < 0:
            raise ValueError(f"SCHEDULER_DRAIN_S must not be negative, got {self.drain_s}")
        if self.heartbeat_ms * 2 > self.worker_ttl_s * 1000:
            raise ValueError(
                "SCHEDULER_WORKER_TTL_S must be at least two heartbeats,"
                f" got {self.worker_ttl_s} s for SCHEDULER_HEARTBEAT_MS={self.heartbeat_ms}"
            )


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"SCHEDULER_{name.upper()} must be positive, got {value}")
