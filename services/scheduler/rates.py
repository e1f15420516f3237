"""How fast each worker computes, learned from what it reports. Pure.

Two straight lines a worker, fitted by least squares over points that fade: the time of a
prefill over the tokens computed, and the time of a step over the requests decoding. Before its
first report a worker is taken to be like its peers, and the first of all like `PRIOR`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.scheduler.facts import Report

KEEP = 0.97
"""What a point still weighs when the next one comes: the half-life is 23 points."""
FLATTEST = 0.05
"""The least slope, as a part of the mean time per unit: noise must not make work free."""
US = 1e-6


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds = base + slope · x. Neither is negative."""

    base_s: float
    slope_s: float

    def at(self, x: float) -> float:
        """The seconds at x."""
        return self.base_s + self.slope_s * x


@dataclass(frozen=True, slots=True)
class Speed:
    """What a worker's steps cost."""

    prefill: Line  # over the tokens computed
    step: Line  # over the requests decoding


PRIOR = Speed(prefill=Line(0.010, 1 / 5000), step=Line(0.010, 0.0001))
"""A middling GPU with a model of some billion parameters. Any guess in seconds will do: it
weighs as much as two prefills."""


class Fit:
    """A line through points that fade, starting on a known line."""

    def __init__(self, prior: Line, xs: tuple[float, float]) -> None:
        self._sums = np.zeros(5)  # of 1, x, y, x², xy
        for x in xs:
            self.add(x, prior.at(x))

    def add(self, x: float, seconds: float) -> None:
        """Take a point in."""
        self._sums *= KEEP
        self._sums += (1.0, x, seconds, x * x, x * seconds)

    def line(self) -> Line:
        """The line of least squares, kept from falling and from starting below zero."""
        weight, x, y, xx, xy = self._sums.tolist()
        spread = weight * xx - x * x
        per_unit = y / x if x > 0 else 0.0
        slope = (weight * xy - x * y) / spread if spread > 1e-9 * xx * weight else per_unit
        slope = min(per_unit, max(FLATTEST * per_unit, slope))
        return Line((y - slope * x) / weight, slope)


class Rates:
    """The speed of each worker, in columns by slot."""

    def __init__(self, slots: int) -> None:
        self.known = np.zeros(slots, np.bool_)
        self.unknown: set[int] = set()  # of those that joined
        self._prefilling: set[int] = set()  # at their last report
        self.prefill_s_per_token = np.zeros(slots)
        self.step_s = np.zeros(slots)
        self.step_s_per_decode = np.zeros(slots)
        self._prefill: dict[int, Fit] = {}
        self._step: dict[int, Fit] = {}

    def join(self, slot: int, peers: Sequence[int]) -> None:
        """A worker joins: until it reports, it is like the mean of those peers that did."""
        known = [peer for peer in peers if self.known[peer]]
        prior = self._mean(known) if known else PRIOR
        self.known[slot] = False
        self.unknown.add(slot)
        self._begin(slot, prior)

    def follow(self, slot: int, peer: int) -> None:
        """A peer that has not reported a prefill yet is taken to be like one that has.

        Else the first slow steps of a cold engine would make the worker that has the prefix
        look worse than one of which nothing is known.
        """
        if self.known[peer] and not self.known[slot]:
            self._begin(slot, self.speed(peer))

    def leave(self, slot: int) -> None:
        """A worker is gone."""
        del self._prefill[slot], self._step[slot]
        self.known[slot] = False
        self.unknown.discard(slot)
        self._prefilling.discard(slot)

    def learn(self, slot: int, report: Report) -> None:
        """Take a report's timings in."""
        prefill = self._prefill[slot]
        timed = [timing for timing in report.prefills if timing.computed_tokens]
        for timing in timed:
            prefill.add(timing.computed_tokens, timing.prefill_us * US)
        self._learn_steps(slot, report)
        if timed or (report.steps and report.step_time_us):
            self._write(slot)
        if timed:
            self.known[slot] = True
            self.unknown.discard(slot)

    def speed(self, slot: int) -> Speed:
        """The worker's speed as it is known now."""
        return Speed(self._prefill[slot].line(), self._step[slot].line())

    def _learn_steps(self, slot: int, report: Report) -> None:
        """Learn from steps that only decoded.

        A prefill's chunks are in no timing before it ends, so the decodes' share of a report
        with a prefill in it, before it or behind it is not known: taking the rest for decoding
        made steps look ten times as long as they are, and drove every prefix away.
        """
        prefilling = slot in self._prefilling
        self._prefilling.discard(slot)
        if report.queued_prefill_tokens:
            self._prefilling.add(slot)
        if prefilling or report.prefills or report.queued_prefill_tokens:
            return
        if report.steps and report.step_time_us:
            step_s = report.step_time_us * US / report.steps
            self._step[slot].add(report.generated_tokens / report.steps, step_s)

    def _begin(self, slot: int, prior: Speed) -> None:
        self._prefill[slot] = Fit(prior.prefill, (64.0, 2048.0))
        self._step[slot] = Fit(prior.step, (1.0, 16.0))
        self._write(slot)

    def _mean(self, slots: Sequence[int]) -> Speed:
        speeds = [self.speed(slot) for slot in slots]
        return Speed(
            _mean_line([speed.prefill for speed in speeds]),
            _mean_line([speed.step for speed in speeds]),
        )

    def _write(self, slot: int) -> None:
        speed = self.speed(slot)
        self.prefill_s_per_token[slot] = speed.prefill.slope_s
        self.step_s[slot] = speed.step.base_s
        self.step_s_per_decode[slot] = speed.step.slope_s


def _mean_line(lines: Sequence[Line]) -> Line:
    count = len(lines)
    return Line(
        sum(line.base_s for line in lines) / count,
        sum(line.slope_s for line in lines) / count,
    )
