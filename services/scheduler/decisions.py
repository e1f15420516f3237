"""The last decisions, with what was predicted and what came true. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from services.scheduler.facts import Hello, Request
from services.scheduler.fleet import Floats, Ints
from services.scheduler.outcomes import Placed


class Considered(NamedTuple):
    """A candidate as it looked when a request was placed."""

    worker_id: str
    cached_tokens: int
    queued_tokens: int
    requests: int
    predicted_ttft_s: float


class Figures(NamedTuple):
    """Some candidates as columns: hardly any of them is ever looked at."""

    hellos: Sequence[Hello]
    cached_tokens: Ints
    queued_tokens: Ints
    requests: Ints
    predicted_ttft_s: Floats

    def rows(self) -> tuple[Considered, ...]:
        """One after the other."""
        ids = (hello.worker_id for hello in self.hellos)
        columns = (column.tolist() for column in self[1:])
        return tuple(Considered(*row) for row in zip(ids, *columns, strict=True))


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One placement. `actual_ttft_s` is None until the caller reports it."""

    request: Request
    placed: Placed
    decided_s: float
    figures: Figures
    actual_ttft_s: float | None = None

    @property
    def considered(self) -> tuple[Considered, ...]:
        """The best of the candidates, as they looked then."""
        return self.figures.rows()

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
        old = self._ring[place]
        # Not by `replace`, which takes thrice as long.
        record = DecisionRecord(
            old.request, old.placed, old.decided_s, old.figures, actual_ttft_s=actual_ttft_s
        )
        self._ring[place] = record
        return record

    def last(self, limit: int | None = None) -> list[DecisionRecord]:
        """The newest records, all without a limit; newest first."""
        return list(islice(reversed(self._ring), limit))
