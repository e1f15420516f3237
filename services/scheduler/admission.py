"""Who waits, and who is next. Pure.

Requests wait here while every worker that fits them is full, one line a pool: by priority
class, then by arrival.
"""

from bisect import bisect_left, insort
from typing import NamedTuple

from services.scheduler.facts import Key, Pool, Request

KEEP = 0.9
"""What the mean time between two departures keeps of its past at each departure."""
FIRST_RETRY_S = 1.0
"""When to come again, while nobody has left the queue yet."""
RETRY_S = (0.1, 60.0)


class Waiter(NamedTuple):
    """A request's place in its line; the number tells arrivals apart."""

    priority: int
    number: int
    request: Request


class WaitingRoom:
    """A bounded queue."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lines: dict[Pool, list[Waiter]] = {}
        self._waiters: dict[Key, Waiter] = {}
        self._arrivals = 0
        self._gap_s: float | None = None
        self._departed_s: float | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiters

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return len(self._waiters) >= self.limit

    def add(self, request: Request) -> None:
        """Put a request in its line. The caller has seen that there is room."""
        waiter = Waiter(request.priority, self._arrivals, request)
        self._arrivals += 1
        self._waiters[request.key] = waiter
        insort(self._lines.setdefault(request.pool, []), waiter)

    def leave(self, key: Key) -> Request | None:
        """Take a request out. None when it does not wait."""
        waiter = self._waiters.pop(key, None)
        if waiter is None:
            return None
        pool = waiter.request.pool
        line = self._lines[pool]
        del line[bisect_left(line, waiter)]
        if not line:
            del self._lines[pool]
        return waiter.request

    def depart(self, key: Key, now_s: float) -> None:
        """Take a request out because it was placed: shows how fast the queue moves."""
        self.leave(key)
        if self._departed_s is not None:
            gap_s = now_s - self._departed_s
            past_s = gap_s if self._gap_s is None else self._gap_s
            self._gap_s = KEEP * past_s + (1 - KEEP) * gap_s
        self._departed_s = now_s

    def pools(self) -> list[Pool]:
        """The pools for which somebody waits."""
        return list(self._lines)

    def line(self, pool: Pool) -> list[Request]:
        """Who waits for the pool, in order."""
        return [waiter.request for waiter in self._lines.get(pool, ())]

    def held_by(self, owner: int) -> list[Key]:
        """The requests of one owner that wait."""
        return [key for key in self._waiters if key.owner == owner]

    def too_late(self, now_s: float) -> list[Request]:
        """Requests whose deadline has passed."""
        return [
            waiter.request
            for waiter in self._waiters.values()
            if waiter.request.deadline_s is not None and waiter.request.deadline_s <= now_s
        ]

    def retry_after_s(self) -> float:
        """When the queue will have moved on by its length."""
        if self._gap_s is None:
            return FIRST_RETRY_S
        shortest_s, longest_s = RETRY_S
        return min(longest_s, max(shortest_s, self._gap_s * len(self._waiters)))
