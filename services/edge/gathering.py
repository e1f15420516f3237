"""Smart batching: what gathers while a batch is in flight leaves with the next. Pure.

No timer: an idle hop adds no latency, and a busy one pays its cost once a batch.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Gathering(Generic[T]):
    """The items that wait for the next batch of one stream. `limit` bounds a batch."""

    limit: int
    waiting: list[T] = field(default_factory=list)
    in_flight: bool = False

    def take(self) -> list[T]:
        """The next batch, which is then in flight; empty when one is already or none waits."""
        if self.in_flight or not self.waiting:
            return []
        batch, self.waiting = self.waiting[: self.limit], self.waiting[self.limit :]
        self.in_flight = True
        return batch

    def landed(self) -> None:
        """The batch in flight was answered."""
        self.in_flight = False
