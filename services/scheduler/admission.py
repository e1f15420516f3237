"""Who waits, and who is next. Pure.

Requests wait here while every worker that fits them is full, one line a pool: by priority
class, then by what their tenants have been served, then by deadline, then by arrival.
"""

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

from services.scheduler.facts import Key, Pool, Request
from services.scheduler.shares import Shares

KEEP = 0.9
"""What the mean time between two departures keeps of its past at each departure."""
FEW = 0.5
"""Times the mean line of a tenant."""
FIRST_RETRY_S = 1.0
"""When to come again, while nobody has left the queue yet."""
RETRY_S = (0.1, 60.0)


class Waiter(NamedTuple):
    """A request's place among its tenant's; the number tells arrivals apart."""

    deadline_s: float
    number: int
    request: Request


class Head(NamedTuple):
    """A tenant's next; the least goes first."""

    served: float
    due: tuple[float, int]
    tenant: str
    passed: int


Class = dict[str, list[Waiter]]
"""One priority class of one pool: the tenants' own lines."""


class WaitingRoom:
    """A bounded queue."""

    def __init__(self, limit: int, shares: Shares) -> None:
        self.limit = limit
        self._shares = shares
        self._classes: dict[Pool, dict[int, Class]] = {}
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
        waiter = self._next_waiter(request)
        self._arrivals += 1
        self._waiters[request.key] = waiter
        classes = self._classes.setdefault(request.pool, {})
        insort(classes.setdefault(request.priority, {}).setdefault(request.tenant, []), waiter)

    def leave(self, key: Key) -> Request | None:
        """Take a request out. None when it does not wait."""
        waiter = self._waiters.pop(key, None)
        if waiter is None:
            return None
        self._take_out(waiter)
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
        return list(self._classes)

    def is_waited_for(self, pool: Pool) -> bool:
        """Whether somebody waits for the pool."""
        return pool in self._classes

    def owed(self, pool: Pool) -> frozenset[str]:
        """The tenants that have few waiting beside others that have many, and so have asked for
        less than their share."""
        lines = Counter[str]()
        for tenants in self._classes.get(pool, {}).values():
            lines.update({tenant: len(line) for tenant, line in tenants.items()})
        few = FEW * lines.total() / max(1, len(lines))
        return frozenset(tenant for tenant, waiting in lines.items() if waiting < few)

    def order(self, pool: Pool) -> Iterator[Request]:
        """Who is next, one after the other.

        Meant to be read while the caller serves: one that it takes out is charged, which
        changes who comes next; one that it leaves waiting is passed over.
        """
        for _, tenants in sorted(self._classes.get(pool, {}).items()):
            yield from self._order(tenants)

    def _next_waiter(self, request: Request) -> Waiter:
        """The request's place, if it is the next to come."""
        deadline_s = math.inf if request.deadline_s is None else request.deadline_s
        return Waiter(deadline_s, self._arrivals, request)

    def _order(self, tenants: Class) -> Iterator[Request]:
        heads = [self._head(tenant, line, 0) for tenant, line in tenants.items()]
        heapify(heads)
        while heads:
            served, _, tenant, passed = heads[0]
            now_served = self._shares.served(tenant)
            if now_served != served:  # charged meanwhile: not its turn any more
                heapreplace(heads, self._head(tenant, tenants[tenant], passed))
                continue
            waiter = tenants[tenant][passed]
            yield waiter.request
            passed += waiter.request.key in self._waiters
            line = tenants.get(tenant, [])
            if passed < len(line):
                heapreplace(heads, self._head(tenant, line, passed))
            else:
                heappop(heads)

    def _head(self, tenant: str, line: list[Waiter], passed: int) -> Head:
        return Head(self._shares.served(tenant), line[passed][:2], tenant, passed)

    def _take_out(self, waiter: Waiter) -> None:
        request = waiter.request
        classes = self._classes[request.pool]
        tenants = classes[request.priority]
        line = tenants[request.tenant]
        del line[bisect_left(line, waiter[:2], key=lambda each: each[:2])]
        if not line:
            del tenants[request.tenant]
        if not tenants:
            del classes[request.priority]
        if not classes:
            del self._classes[request.pool]

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

    def wait_s(self, request: Request) -> float:
        """How long those take who go before a newcomer whatever its tenant is owed: the better
        classes, and its own tenant's line. 0 while nobody has left the queue yet."""
        classes = self._classes.get(request.pool, {})
        better = sum(
            len(line)
            for priority, tenants in classes.items()
            for line in tenants.values()
            if priority < request.priority
        )
        line = classes.get(request.priority, {}).get(request.tenant, [])
        own = bisect_left(line, self._next_waiter(request)[:2], key=lambda each: each[:2])
        return (better + own) * (self._gap_s or 0.0)

    def retry_after_s(self) -> float:
        """When the queue will have moved on by its length."""
        if self._gap_s is None:
            return FIRST_RETRY_S
        shortest_s, longest_s = RETRY_S
        return min(longest_s, max(shortest_s, self._gap_s * len(self._waiters)))
