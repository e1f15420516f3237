"""The last decisions, with what was predicted and what came true. Pure."""

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from services.scheduler.facts import Request
from services.scheduler.outcomes import Placed


class Considered(NamedTuple):
    """A candidate as it looked when a request was placed."""

    worker_id: str
    cached_tokens: int
    queued_tokens: int
    requests: int
    predicted_ttft_s: float


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One placement. `actual_ttft_s` is None until the caller reports it."""

    request: Request
    placed: Placed
    decided_s: float
    considered: tuple[Considered, ...] = ()
    actual_ttft_s: float | None = None

    @property
    def error_s(self) -> float | None:
        """Predicted less actual time to first token. None while either is not known."""
        predicted_s = self.placed.decision.predicted_ttft_s
        if predicted_s is None or self.actual_ttft_s is None:
            return None
        return predicted_s - self.actual_ttft_s


class Decisions:
    """A bounded ring of records, numbered from 0."""

    def __init__(self, limit: int) -> None:
        self._ring: deque[DecisionRecord] = deque(maxlen=limit)
        self._first = 0

    def add(self, record: DecisionRecord) -> int:
        """Remember a decision; the oldest goes when the ring is full. Returns its number."""
        if len(self._ring) == self._ring.maxlen:
            self._first += 1
        self._ring.append(record)
        return self._first + len(self._ring) - 1

    def came_true(self, number: int, actual_ttft_s: float) -> DecisionRecord | None:
        """Note the actual time. None when the record is gone already."""
        place = number - self._first
        if place < 0:
            return None
        self._ring[place] = replace(self._ring[place], actual_ttft_s=actual_ttft_s)
        return self._ring[place]

    def last(self, limit: int | None = None) -> list[DecisionRecord]:
        """The newest records, all without a limit; newest first."""
        return list(islice(reversed(self._ring), limit))
