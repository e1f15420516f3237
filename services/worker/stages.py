"""Where a request's time to first token went. Pure."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class FirstTokenTimes:
    """Readings of one monotonic clock, in order."""

    arrived_s: float
    handed_s: float  # to the engine
    scheduled_s: float
    first_token_s: float


@dataclass(frozen=True, slots=True)
class Stages:
    """Durations in microseconds; without a gap, so that they sum to the whole."""

    worker_ingress_us: int
    engine_queue_us: int
    prefill_us: int
    worker_egress_us: int


def stages(times: FirstTokenTimes, departed_s: float) -> Stages:
    """Cut the time from arrival to departure at the readings between."""
    readings = (times.handed_s, times.scheduled_s, times.first_token_s, departed_s)
    # Points are rounded, not durations: so the sum has no rounding error.
    points = [0, *(round((reading - times.arrived_s) * 1e6) for reading in readings)]
    return Stages(*(later - earlier for earlier, later in pairwise(points)))
