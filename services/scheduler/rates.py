"""How fast each worker computes, learned from what it reports. Pure.

One model a worker, of what a second of steps was spent on:

    seconds = steps · base + computed prompt tokens · prefill + generated tokens · decode

fitted by weighted least squares over points that fade. Before its first report a
worker is taken to be like its peers, and the first of all like `PRIOR`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.scheduler.facts import Report

KEEP = 0.97
"""What a point still weighs when the next one comes: the half-life is 23 points."""
FLATTEST = 0.005
"""The least cost of a token, as a part of what it began with: noise must not make work free."""
PREFILLS = 64
"""A point has so many prefills, if the worker's queue is not empty before."""
JITTER_S = 0.01
"""The time of a second of steps is off by a tenth, and that of s seconds by its root."""
SHORTEST_S = 0.05
"""A shorter time is no better known than this."""
LEAST_TOLD = 0.1
"""Of what was done less than this often, lately, the costs are the prior's."""
EAGER, LAZY = 16, 8
"""The first points change the speed each; after that, every so many do."""
US = 1e-6

Floats = npt.NDArray[np.float64]


class Speed(NamedTuple):
    """What a worker's steps cost, in seconds."""

    step_s: float
    prefill_s_per_token: float
    step_s_per_decode: float


class Work(NamedTuple):
    """What was done in some seconds."""

    steps: float
    computed_tokens: float
    generated_tokens: float
    seconds: float
    doubtful_s: float = 0.0
    """How far off the seconds may be."""


PRIOR = Speed(step_s=0.010, prefill_s_per_token=1 / 5000, step_s_per_decode=0.0001)
"""A middling GPU with a model of some billion parameters. Any guess in seconds will do: it
weighs as much as six points."""
USUAL = ((1, 64, 0), (1, 2048, 0), (1, 0, 1), (1, 0, 16), (1, 512, 4), (4, 4096, 64))
"""Steps, computed and generated tokens of the points that a speed begins with."""


class Points:
    """Points that fade, as the sums that least squares need."""

    def __init__(self) -> None:
        self.sums = [[0.0] * 4] * 3  # of the normal equations
        self.totals = [0.0] * 4

    def add(self, work: Work) -> None:
        """Take a point in."""
        # Twelve numbers: plain ones take a quarter of the time of small arrays.
        done = work[:4]
        weight = 1 / (JITTER_S * max(work.seconds, SHORTEST_S) + work.doubtful_s**2)
        self.totals = [KEEP * total + each for total, each in zip(self.totals, done, strict=True)]
        self.sums = [
            [KEEP * total + weight * one * other for total, other in zip(row, done, strict=True)]
            for row, one in zip(self.sums, done[:3], strict=True)
        ]


class Fit:
    """A speed through points that fade, starting on a known one."""

    def __init__(self, prior: Speed) -> None:
        self._prior = np.array(prior)
        # Apart: while answers go on for long, what a prompt costs is not forgotten.
        self._with_prefills, self._without = Points(), Points()
        self.points = 0
        for usual in USUAL:
            seconds = float(self._prior @ usual)
            self._add(Work(*usual, seconds, doubtful_s=seconds))

    def add(self, work: Work) -> None:
        """Take a point in."""
        self.points += 1
        self._add(work)

    def speed(self) -> Speed:
        """The best speed that has no negative cost, and no free token."""
        points = (self._with_prefills, self._without)
        sums = np.sum([each.sums for each in points], axis=0)
        totals = np.sum([each.totals for each in points], axis=0)
        told = [column for column in range(3) if totals[column] >= LEAST_TOLD]
        costs = self._prior.copy()
        costs[told] = _nonnegative(sums[np.ix_(told, told)], sums[told, 3])
        tokens = [column for column in told if column]
        costs[tokens] = np.maximum(costs[tokens], FLATTEST * self._prior[tokens])
        return Speed(*costs.tolist())

    def _add(self, work: Work) -> None:
        (self._with_prefills if work.computed_tokens else self._without).add(work)


def _nonnegative(matrix: Floats, right: Floats) -> Floats:
    """The solution of the normal equations, without the columns that would be negative."""
    scale = np.sqrt(matrix.diagonal())
    solved, free = np.zeros(len(scale)), list(range(len(scale)))
    while free:
        part = matrix[np.ix_(free, free)] / scale[free] / scale[free, None]
        costs = np.linalg.lstsq(part, right[free] / scale[free], rcond=1e-9)[0]
        if (costs >= 0).all():
            solved[free] = costs / scale[free]
            break
        free.pop(int(np.argmin(costs)))
    return solved


@dataclass(slots=True)
class Point:
    """What a worker has reported since its last point."""

    steps: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    step_us: int = 0
    prefill_us: int = 0
    prefills: int = 0
    longest_tokens: int = 0

    def add(self, report: Report) -> None:
        """Take a report in."""
        self.steps += report.steps
        self.step_us += report.step_time_us
        self.generated_tokens += report.generated_tokens
        for timing in report.prefills:
            self.prefills += 1
            self.computed_tokens += timing.computed_tokens
            self.prefill_us += timing.prefill_us
            self.longest_tokens = max(self.longest_tokens, timing.computed_tokens)

    @property
    def cut_off(self) -> float:
        """As a part of all, what the longest prefill is: it may lie outside."""
        return self.longest_tokens / self.computed_tokens if self.computed_tokens else 1.0

    def work(self, doubt: float) -> list[Work]:
        """What was done; nothing if it took no time."""
        if self.step_us:
            seconds = self.step_us * US
            steps, generated = self.steps, self.generated_tokens
            return [Work(steps, self.computed_tokens, generated, seconds, doubt * seconds)]
        # A worker that does not time its steps does time its prefills, one by one.
        if self.computed_tokens and self.prefill_us:
            seconds = self.prefill_us * US
            return [Work(self.prefills, self.computed_tokens, 0, seconds, doubt * seconds)]
        return []


class Rates:
    """The speed of each worker, in columns by slot."""

    def __init__(self, slots: int) -> None:
        self.known = np.zeros(slots, np.bool_)
        self.unknown: set[int] = set()  # of those that joined
        self.prefill_s_per_token = np.zeros(slots)
        self.step_s = np.zeros(slots)
        self.step_s_per_decode = np.zeros(slots)
        self._priors: dict[int, Speed] = {}
        self._fits: dict[int, Fit] = {}
        self._open: dict[int, Point] = {}
        self._cut = np.zeros(slots, np.bool_)
        """Whether a prefill was half done at the last point's end."""

    def join(self, slot: int, peers: Sequence[int]) -> None:
        """A worker joins: until it reports, it is like the mean of those peers that did."""
        known = np.array(peers, np.int64)
        known = known[self.known[known]]
        columns = (self.step_s, self.prefill_s_per_token, self.step_s_per_decode)
        mean = Speed(*(float(column[known].mean()) for column in columns)) if len(known) else PRIOR
        self.known[slot] = False
        self.unknown.add(slot)
        self._open[slot] = Point()
        self._cut[slot] = False
        self._begin(slot, mean)

    def follow(self, slot: int, peer: int) -> None:
        """A peer that has not reported a prefill yet is taken to be like one that has.

        Else the first slow steps of a cold engine would make the worker that has the prefix
        look worse than one of which nothing is known.
        """
        if self.known[peer] and not self.known[slot]:
            self._begin(slot, self.speed(peer))

    def leave(self, slot: int) -> None:
        """A worker is gone."""
        del self._priors[slot], self._open[slot]
        self._fits.pop(slot, None)
        self.known[slot] = False
        self.unknown.discard(slot)

    def learn(self, slot: int, report: Report) -> bool:
        """Take a report in. True when it changed what is known of the worker's speed.

        A prefill's chunks are in no report before it ends. So a point is made where none is
        half done, or of so many prefills that the two at its ends matter little.
        """
        point = self._open[slot]
        point.add(report)
        if report.queued_prefill_tokens and point.prefills < PREFILLS:
            return False
        cut = report.queued_prefill_tokens > 0
        doubt = point.cut_off if cut or self._cut[slot] else 0.0
        self._cut[slot] = cut
        self._open[slot] = Point()
        return any([self._take(slot, work) for work in point.work(doubt)])

    def speed(self, slot: int) -> Speed:
        """The worker's speed as it is known now."""
        return Speed(
            float(self.step_s[slot]),
            float(self.prefill_s_per_token[slot]),
            float(self.step_s_per_decode[slot]),
        )

    def _take(self, slot: int, work: Work) -> bool:
        fit = self._fits.get(slot)
        if fit is None:
            fit = self._fits[slot] = Fit(self._priors[slot])
        fit.add(work)
        is_due = fit.points <= EAGER or fit.points % LAZY == 0
        if is_due:
            self._write(slot, fit.speed())
        becomes_known = bool(work.computed_tokens) and not self.known[slot]
        if becomes_known:
            self.known[slot] = True
            self.unknown.discard(slot)
        return is_due or becomes_known

    def _begin(self, slot: int, prior: Speed) -> None:
        self._priors[slot] = prior
        self._fits.pop(slot, None)  # made when there is something to fit
        self._write(slot, prior)

    def _write(self, slot: int, speed: Speed) -> None:
        self.step_s[slot] = speed.step_s
        self.prefill_s_per_token[slot] = speed.prefill_s_per_token
        self.step_s_per_decode[slot] = speed.step_s_per_decode
