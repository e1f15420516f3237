"""What was placed and is not yet reported finished. Pure.

A placement counts at once, so a burst does not stampede. What a worker reports is added where
it exceeds the books: work that came to it by another way. It never replaces them, because a
report may be older than the last placements.
"""

from dataclasses import dataclass

import numpy as np

from services.scheduler.facts import Key, Pool, Report
from services.scheduler.rows import column

NONE = (0, 0)

ON_ITS_WAY_S = 0.5
"""A request may take so long from its placement to the worker's engine."""


@dataclass(slots=True, eq=False, kw_only=True)
class Placement:
    """One placement. Only `Books` writes here."""

    key: Key
    pool: Pool
    worker_id: str
    epoch: int
    uncached_tokens: int
    decode_tokens: int
    tenant: str = ""
    answer_tokens: int = 0
    """Expected, and charged."""
    expected_blocks: tuple[int, ...] = ()
    lease_end_s: float | None = None
    decision_number: int = 0
    prefilled: bool = False
    placed_s: float = 0.0
    slot: int | None = None
    """Where it counts. None while its worker is out of the fleet."""


class Books:
    """Placements, and their sums for each worker in columns by slot."""

    def __init__(self, slots: int) -> None:
        self.placed, self._placed = column(slots, np.int64)
        self.waiting, self._waiting = column(slots, np.int64)
        """Placed requests that are not prefilled."""
        self.queued_tokens, self._queued_tokens = column(slots, np.int64)
        """Prompt tokens of those, less what the worker caches."""
        self.decode_tokens, self._decode_tokens = column(slots, np.int64)
        """Tokens that placed requests may still generate, at most."""
        self.held_tokens, self._held_tokens = column(slots, np.int64)
        """Tokens of cache that placed requests fill, what they share counted once."""
        self.foreign_requests, self._foreign_requests = column(slots, np.int64)
        self.foreign_tokens, self._foreign_tokens = column(slots, np.int64)
        self.requests, self._requests = column(slots, np.int64)
        """Placed and foreign requests."""
        self.tokens_ahead, self._tokens_ahead = column(slots, np.int64)
        """Queued and foreign tokens."""
        self.head_tokens, self._head_tokens = column(slots, np.int64)
        """Queued tokens of the request that is computed now: engines go in order."""
        self.heard_s = np.zeros(slots)
        """When a prompt was last computed there, or the first one placed."""
        self._empty_s: dict[int, float] = {}  # the last report, if it told of no queue
        self._lines: dict[int, dict[Placement, None]] = {}
        self._excess: dict[int, tuple[int, int]] = {}  # of requests and tokens, at the last report
        self._by_owner: dict[int, dict[str, Placement]] = {}
        self._by_worker: dict[str, dict[Placement, None]] = {}
        self._by_report: dict[tuple[str, str], Placement] = {}  # what a worker's report names
        self._leased: set[Placement] = set()

    def __len__(self) -> int:
        return sum(len(held) for held in self._by_owner.values())

    def __contains__(self, key: Key) -> bool:
        return key.request_id in self._by_owner.get(key.owner, ())

    def join(self, slot: int, worker_id: str, epoch: int, now_s: float) -> None:
        """A worker joins: what the same epoch held before its stream broke counts again."""
        for placement in self._by_worker.get(worker_id, ()):
            if placement.epoch == epoch:
                self._count(placement, slot, now_s)

    def leave(self, slot: int, worker_id: str, now_s: float) -> None:
        """A worker is gone: what it held counts nowhere, until it ends or the worker is back."""
        for placement in self._by_worker.get(worker_id, ()):
            if placement.slot == slot:
                self._discount(placement, now_s)
        self._empty_s.pop(slot, None)
        self._set_foreign(slot, 0, 0)
        self._excess.pop(slot, None)

    def place(self, placement: Placement, slot: int, now_s: float) -> None:
        """Count a placement. The caller has seen that its key holds none."""
        owner, request_id = placement.key
        self._by_owner.setdefault(owner, {})[request_id] = placement
        self._by_worker.setdefault(placement.worker_id, {})[placement] = None
        self._by_report[placement.worker_id, request_id] = placement
        if placement.lease_end_s is not None:
            self._leased.add(placement)
        self._count(placement, slot, now_s)

    def prefilled(self, worker_id: str, request_id: str, now_s: float) -> None:
        """The worker has computed the request's prompt. Unknown ids are of other callers."""
        placement = self._by_report.get((worker_id, request_id))
        if placement is None or placement.prefilled or placement.slot is None:
            return
        self._prefilled(placement, placement.slot, now_s)

    def finish(self, key: Key, now_s: float) -> Placement | None:
        """Forget a placement. None when there is none of this key."""
        held = self._by_owner.get(key.owner, {})
        placement = held.pop(key.request_id, None)
        if placement is None:
            return None
        if not held:
            del self._by_owner[key.owner]
        self._forget_at_worker(placement, now_s)
        self._leased.discard(placement)
        return placement

    def correct(self, slot: int, report: Report, now_s: float) -> None:
        """Count what the worker has beyond the books, and no more than it has of prompts."""
        self._correct_queue(slot, report, now_s)
        requests = report.running_requests + report.waiting_requests - self._placed[slot]
        tokens = report.queued_prefill_tokens - self._queued_tokens[slot]
        # Without requests from elsewhere the tokens are of ours: a worker counts what it waits
        # to compute without knowing what it has cached.
        excess = max(0, requests), max(0, tokens) if requests > 0 else 0
        before = self._excess.get(slot, NONE)
        if excess == before == NONE:
            return  # mostly so: what is foreign is nothing already
        # A request that ended between the report and now looks foreign once. What comes from
        # elsewhere is there in two reports.
        self._set_foreign(slot, min(excess[0], before[0]), min(excess[1], before[1]))
        self._excess[slot] = excess

    def _correct_queue(self, slot: int, report: Report, now_s: float) -> None:
        """Two reports without a queue: what was placed before has been computed, though the
        word of it was lost."""
        if report.queued_prefill_tokens or report.waiting_requests:
            self._empty_s.pop(slot, None)
            return
        before_s = self._empty_s.get(slot)
        self._empty_s[slot] = now_s
        if before_s is None:
            return
        for placement in list(self._lines.get(slot, ())):
            if placement.placed_s <= before_s - ON_ITS_WAY_S:
                self._prefilled(placement, slot, now_s)

    def held_by(self, owner: int) -> list[Key]:
        """The placements of one owner."""
        return [Key(owner, request_id) for request_id in self._by_owner.get(owner, {})]

    def over_lease(self, now_s: float) -> list[Key]:
        """Placements whose lease has ended."""
        return [
            placement.key
            for placement in self._leased
            if placement.lease_end_s is not None and placement.lease_end_s <= now_s
        ]

    def _prefilled(self, placement: Placement, slot: int, now_s: float) -> None:
        self._add_prefill(placement, slot, -1, now_s)
        placement.prefilled = True
        self.heard_s[slot] = now_s

    def _forget_at_worker(self, placement: Placement, now_s: float) -> None:
        if placement.slot is not None:
            self._discount(placement, now_s)
        there = self._by_worker[placement.worker_id]
        del there[placement]
        if not there:
            del self._by_worker[placement.worker_id]
        name = (placement.worker_id, placement.key.request_id)
        # Another owner may have used the same id since.
        if self._by_report.get(name) is placement:
            del self._by_report[name]

    def _count(self, placement: Placement, slot: int, now_s: float) -> None:
        placement.slot = slot
        placement.placed_s = now_s
        self._add(placement, slot, 1, now_s)

    def _discount(self, placement: Placement, now_s: float) -> None:
        assert placement.slot is not None
        self._add(placement, placement.slot, -1, now_s)
        placement.slot = None

    def _add(self, placement: Placement, slot: int, sign: int, now_s: float) -> None:
        self._placed[slot] += sign
        self._requests[slot] += sign
        self._decode_tokens[slot] += sign * placement.decode_tokens
        self._held_tokens[slot] += sign * (placement.uncached_tokens + placement.answer_tokens)
        if not placement.prefilled:
            self._add_prefill(placement, slot, sign, now_s)

    def _add_prefill(self, placement: Placement, slot: int, sign: int, now_s: float) -> None:
        self._waiting[slot] += sign
        self._queued_tokens[slot] += sign * placement.uncached_tokens
        self._tokens_ahead[slot] += sign * placement.uncached_tokens
        self._line_up(placement, slot, sign, now_s)

    def _line_up(self, placement: Placement, slot: int, sign: int, now_s: float) -> None:
        line = self._lines.setdefault(slot, {})
        first = next(iter(line), None)
        if sign > 0:
            line[placement] = None
        else:
            del line[placement]
        head = next(iter(line), None)
        if head is not first:
            self._head_tokens[slot] = 0 if head is None else head.uncached_tokens
            self.heard_s[slot] = now_s

    def _set_foreign(self, slot: int, requests: int, tokens: int) -> None:
        self._foreign_requests[slot] = requests
        self._foreign_tokens[slot] = tokens
        self._requests[slot] = self._placed[slot] + requests
        self._tokens_ahead[slot] = self._queued_tokens[slot] + tokens
