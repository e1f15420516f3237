"""How much work has lately come to each worker. Pure.

Counts that fade with a time constant of a minute, in columns by slot. It starts as if nothing
had come for a while, so that the first burst does not look like a flood.
"""

import math
from dataclasses import dataclass

import numpy as np

from services.scheduler.fleet import Floats, Ints

WINDOW_S = 60.0
QUIET_S = 10.0
FADE_S = 1.0
"""How often the counts fade."""
BUSIEST = 0.95
"""The highest utilisation that is told: at 1 a queue has no mean length."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What comes to one of some workers, in the mean."""

    requests_per_s: float
    utilisation: float
    """Seconds of prefill a second, 0 to `BUSIEST`."""

    @property
    def delayed_per_s(self) -> float:
        """Requests that a queue of one second delays before it is empty again.

        While it drains others come, each with its own work: λ / (1 - utilisation) of them.
        """
        return self.requests_per_s / (1 - self.utilisation)


class Traffic:
    """Placements and the tokens that they compute, faded."""

    def __init__(self, slots: int) -> None:
        self._requests = np.zeros(slots)
        self._tokens = np.zeros(slots)
        self._span_s = QUIET_S
        self._faded_s: float | None = None

    def leave(self, slot: int) -> None:
        """A worker is gone."""
        self._requests[slot] = self._tokens[slot] = 0.0

    def placed(self, slot: int, uncached_tokens: int, now_s: float) -> None:
        """A request that has so much to compute went to a worker."""
        self._fade(now_s)
        self._requests[slot] += 1
        self._tokens[slot] += uncached_tokens

    def demand(self, slots: Ints, prefill_s_per_token: Floats, now_s: float) -> Demand:
        """What comes to these workers, for each of them, at the speeds that they have now."""
        self._fade(now_s)
        worker_s = self._span_s * len(slots)
        utilisation = float(self._tokens[slots] @ prefill_s_per_token) / worker_s
        return Demand(float(self._requests[slots].sum()) / worker_s, min(BUSIEST, utilisation))

    def _fade(self, now_s: float) -> None:
        if self._faded_s is None:
            self._faded_s = now_s
        past_s = now_s - self._faded_s
        if past_s < FADE_S:
            return
        kept = math.exp(-past_s / WINDOW_S)
        self._requests *= kept
        self._tokens *= kept
        self._span_s = self._span_s * kept + past_s
        self._faded_s = now_s
