"""The scheduler's memory of its workers: what they said, and when. Pure.

A worker is here from its hello until its stream ends or it was silent for too long; there is
no other way in or out. Each has a slot, by which books, rates and index know it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from services.scheduler.facts import Hello, Pool, Report

SLOTS = 4096
"""The most workers in a fleet."""

UNBOUNDED = 1 << 60

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class FleetFull(Exception):
    """More workers want to join than there are slots."""


@dataclass(slots=True, eq=False)
class Member:
    """One life of a worker in the fleet. Only `Fleet` writes here."""

    hello: Hello
    pools: frozenset[Pool]
    slot: int
    heard_s: float
    drained: bool = False
    report: Report | None = None
    next_sequence: int | None = None

    @property
    def id(self) -> str:
        """The worker's id."""
        return self.hello.worker_id

    @property
    def draining(self) -> bool:
        """Whether it gets nothing new, by its own wish or the operator's."""
        return self.drained or (self.report is not None and self.report.draining)


@dataclass(frozen=True, slots=True)
class Roster:
    """Workers of one pool that take new requests, ordered by id: one row a worker."""

    slots: Ints
    seeds: npt.NDArray[np.uint64]
    reported: Bools
    block_size: Ints
    cache_tokens: Ints
    """Tokens of one request that the cache can hold."""
    memory_tokens: Ints
    """Tokens of all requests that it can; no bound where the worker does not say."""
    max_model_tokens: Ints
    max_running: Ints
    step_budget_tokens: Ints
    # What is true of all rows, because each request asks for it.
    all_reported: bool = field(init=False)
    none_reported: bool = field(init=False)
    least_memory_tokens: int = field(init=False)
    block_sizes: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        reported = np.count_nonzero(self.reported)
        object.__setattr__(self, "all_reported", reported == len(self))
        object.__setattr__(self, "none_reported", reported == 0)
        least = self.memory_tokens.min(initial=UNBOUNDED)
        object.__setattr__(self, "least_memory_tokens", int(least))
        object.__setattr__(self, "block_sizes", frozenset(self.block_size.tolist()))

    def __len__(self) -> int:
        return len(self.slots)

    def only(self, rows: Bools) -> "Roster":
        """Some of the workers."""
        columns = (column for column in fields(self) if column.init)
        return Roster(*(getattr(self, column.name)[rows] for column in columns))


@dataclass(frozen=True, slots=True)
class OpenPool:
    """A pool's roster, and what its smallest worker can hold."""

    roster: Roster
    smallest_tokens: int


class Fleet:
    """All live workers."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self.version = 0
        """Grows with every change of membership or readiness."""
        self.slots_in_use = 0
        """All slots of live workers are below this."""
        self._members: dict[str, Member] = {}
        self._by_slot: dict[int, Member] = {}
        self._seen: set[Pool] = set()
        self._drained: dict[str, int] = {}
        self._open: dict[Pool, OpenPool] = {}
        self._free = list(range(SLOTS))

    def join(self, hello: Hello, now_s: float) -> Member:
        """Take a worker in. The caller has let an older one of the same id leave."""
        if not self._free:
            raise FleetFull(f"the fleet has {SLOTS} workers already")
        # The same epoch after a broken stream is the same life: its drain still holds.
        drained = self._drained.get(hello.worker_id) == hello.epoch
        member = Member(hello, frozenset(hello.pools()), heappop(self._free), now_s, drained)
        self._members[hello.worker_id] = self._by_slot[member.slot] = member
        self.slots_in_use = max(self.slots_in_use, member.slot + 1)
        self._seen |= member.pools
        self._changed()
        return member

    def leave(self, member: Member) -> None:
        """Forget a worker; its slot goes to the next that joins."""
        del self._members[member.id], self._by_slot[member.slot]
        if member.slot + 1 == self.slots_in_use:
            self.slots_in_use = max(self._by_slot, default=-1) + 1
        heappush(self._free, member.slot)
        self._changed()

    def heard(self, member: Member, now_s: float) -> None:
        """The worker said something: it lives."""
        member.heard_s = now_s

    def report(self, member: Member, report: Report) -> None:
        """Remember how the worker fares."""
        first, drained_before = member.report is None, member.draining
        member.report = report
        if member.draining != drained_before:
            self._changed()
        elif first:
            self._open.clear()

    def drain(self, member: Member) -> None:
        """Give the worker nothing new in this epoch."""
        if not member.draining:
            member.drained = True
            self._changed()
        self._drained[member.id] = member.hello.epoch

    def follows(self, member: Member, sequence: int, snapshot: bool) -> bool:
        """Whether a change of the worker's cache is the one due; if so, the next is due."""
        due = 0 if member.next_sequence is None else member.next_sequence
        if sequence != due and not snapshot:
            return False
        member.next_sequence = sequence + 1
        return True

    def silent(self, now_s: float) -> list[Member]:
        """Workers that said nothing for the time-to-live."""
        return [member for member in self._members.values() if now_s - member.heard_s >= self.ttl_s]

    def holds(self, member: Member) -> bool:
        """Whether this life of the worker is still the one in the fleet."""
        return self._members.get(member.id) is member

    def member(self, worker_id: str) -> Member | None:
        """The live worker of this id."""
        return self._members.get(worker_id)

    def members(self) -> list[Member]:
        """All live workers, ordered by id."""
        return [self._members[worker_id] for worker_id in sorted(self._members)]

    def in_slot(self, slot: int) -> Member:
        """The worker that has this slot."""
        return self._by_slot[slot]

    def peers(self, hello: Hello) -> list[int]:
        """The slots of open workers that serve any of what this worker serves."""
        pools = frozenset(hello.pools())
        return [
            slot
            for slot, member in self._by_slot.items()
            if not (member.draining or pools.isdisjoint(member.pools))
        ]

    def open_pool(self, pool: Pool) -> OpenPool:
        """The workers of the pool that take new requests."""
        found = self._open.get(pool)
        if found is None:
            found = self._open_pool(pool)
            if pool in self._seen:  # what callers make up is not remembered
                self._open[pool] = found
        return found

    def has_seen(self, pool: Pool) -> bool:
        """Whether a worker of this pool was ever here."""
        return pool in self._seen

    def model_names(self) -> tuple[str, ...]:
        """Every model that was ever served here."""
        return tuple(sorted({pool.model for pool in self._seen}))

    def _changed(self) -> None:
        self.version += 1
        self._open.clear()

    def _open_pool(self, pool: Pool) -> OpenPool:
        roster = _roster(
            [
                member
                for member in self.members()
                if not member.draining and _serves(member.hello, pool)
            ]
        )
        smallest = np.minimum(roster.cache_tokens, roster.max_model_tokens)
        return OpenPool(roster, int(smallest.min()) if len(roster) else 0)


def _roster(members: list[Member]) -> Roster:
    hellos = [member.hello for member in members]
    seeds = [xxh3_64_intdigest(hello.worker_id.encode()) for hello in hellos]

    def column(values: Iterable[int]) -> Ints:
        return np.fromiter(values, np.int64)

    return Roster(
        slots=column(member.slot for member in members),
        seeds=np.array(seeds, np.uint64),
        reported=np.array([member.report is not None for member in members], np.bool_),
        block_size=column(hello.block_size for hello in hellos),
        cache_tokens=column(hello.cache_tokens for hello in hellos),
        memory_tokens=column(
            hello.capacity_blocks * hello.block_size or UNBOUNDED for hello in hellos
        ),
        max_model_tokens=column(hello.max_model_tokens for hello in hellos),
        max_running=column(hello.max_running for hello in hellos),
        step_budget_tokens=column(hello.step_budget_tokens for hello in hellos),
    )


def _serves(hello: Hello, pool: Pool) -> bool:
    return (
        pool.kind is hello.kind
        and pool.model in hello.models
        and (not pool.adapter or pool.adapter in hello.adapters)
    )
