"""What a worker's steps cost, from what was done in how much time. Pure.

seconds = steps · base + prefilled tokens · prefill + decoded tokens · decode, by least squares
over reports. No cost is negative: of the fits with some of the three left out, the best that
has none below zero is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from command.simulation.recordings import Work

LEAST_REPORTS = 10
COSTS = 3


@dataclass(frozen=True, slots=True)
class StepCosts:
    """The simulated engine's cost model."""

    base_s: float
    prefill_s_per_token: float
    s_per_decode: float


def step_costs(work: Sequence[Work]) -> StepCosts | None:
    """The costs that fit best. None when too little was done to tell."""
    if len(work) < LEAST_REPORTS:
        return None
    done = np.array(
        [(each.steps, each.prefilled_tokens, each.decoded_tokens) for each in work], np.float64
    )
    seconds = np.array([each.step_s for each in work])
    fits = [
        fit
        for size in range(1, COSTS + 1)
        for kept in combinations(range(COSTS), size)
        if (fit := _fit(done, seconds, list(kept))) is not None
    ]
    if not fits:
        return None
    _, costs = min(fits)
    return StepCosts(*costs)


def _fit(
    done: np.ndarray, seconds: np.ndarray, kept: list[int]
) -> tuple[float, tuple[float, ...]] | None:
    """The squared error and the three costs; None where one is negative."""
    scale = done[:, kept].mean(axis=0)
    if not scale.all():
        return None
    scaled, *_ = np.linalg.lstsq(done[:, kept] / scale, seconds, rcond=None)
    if (scaled < 0).any():
        return None
    costs = np.zeros(COSTS)
    costs[kept] = scaled / scale
    error = float(((done @ costs - seconds) ** 2).sum())
    return error, tuple(costs.tolist())
