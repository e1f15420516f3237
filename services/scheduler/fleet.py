"""The scheduler's memory of its workers: what they said, and when. Pure.

A worker is here from its hello until its stream ends or it was silent for too long; there is
no other way in or out. Each has a slot, by which books, rates and index know it.
"""

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from services.scheduler.facts import Hello, Pool, Report

SLOTS = 4096
"""The most workers in a fleet."""

Ints = npt.NDArray[np.int64]


class FleetFull(Exception):
    """More workers want to join than there are slots."""


@dataclass(slots=True, eq=False)
class Member:
    """One life of a worker in the fleet. Only `Fleet` writes here."""

    hello: Hello
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
class OpenPool:
    """The workers of a pool that take new requests, and what the smallest can hold."""

    slots: Ints
    smallest_tokens: int


class Fleet:
    """All live workers."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self.version = 0
        """Grows with every change of membership or readiness."""
        self.rank = np.zeros(SLOTS, np.int64)
        """The place of each worker in the order of ids, by slot: breaks ties."""
        self.seed = np.zeros(SLOTS, np.uint64)
        self.reported = np.zeros(SLOTS, np.bool_)
        self.block_size = np.ones(SLOTS, np.int64)
        self.cache_tokens = np.zeros(SLOTS, np.int64)
        self.max_model_tokens = np.zeros(SLOTS, np.int64)
        self.max_running = np.zeros(SLOTS, np.int64)
        self.step_budget_tokens = np.ones(SLOTS, np.int64)
        self._members: dict[str, Member] = {}
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
        member = Member(hello, heappop(self._free), now_s, drained)
        self._members[hello.worker_id] = member
        self._seen.update(hello.pools())
        self._describe(member.slot, hello)
        self._changed()
        return member

    def leave(self, member: Member) -> None:
        """Forget a worker; its slot goes to the next that joins."""
        del self._members[member.id]
        heappush(self._free, member.slot)
        self.reported[member.slot] = False
        self._changed()

    def heard(self, member: Member, now_s: float) -> None:
        """The worker said something: it lives."""
        member.heard_s = now_s

    def report(self, member: Member, report: Report) -> None:
        """Remember how the worker fares."""
        drained_before = member.draining
        member.report = report
        self.reported[member.slot] = True
        if member.draining != drained_before:
            self._changed()

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

    def _describe(self, slot: int, hello: Hello) -> None:
        self.seed[slot] = xxh3_64_intdigest(hello.worker_id.encode())
        self.block_size[slot] = hello.block_size
        self.cache_tokens[slot] = hello.cache_tokens
        self.max_model_tokens[slot] = hello.max_model_tokens
        self.max_running[slot] = hello.max_running
        self.step_budget_tokens[slot] = hello.step_budget_tokens

    def _changed(self) -> None:
        self.version += 1
        self._open.clear()
        members = self.members()
        self._by_slot = {member.slot: member for member in members}
        self.slots_in_use = max(self._by_slot, default=-1) + 1
        for rank, member in enumerate(members):
            self.rank[member.slot] = rank

    def _open_pool(self, pool: Pool) -> OpenPool:
        hellos = {
            member.slot: member.hello
            for member in self._members.values()
            if not member.draining and _serves(member.hello, pool)
        }
        limits = [min(hello.max_model_tokens, hello.cache_tokens) for hello in hellos.values()]
        return OpenPool(np.array(sorted(hellos), np.int64), min(limits, default=0))


def _serves(hello: Hello, pool: Pool) -> bool:
    return (
        pool.kind is hello.kind
        and pool.model in hello.models
        and (not pool.adapter or pool.adapter in hello.adapters)
    )
