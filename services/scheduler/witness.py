"""Sees what the desk does, and says it to the recording."""

from collections.abc import Callable

from services.scheduler.facts import Key, Request
from services.scheduler.fleet import Member
from services.scheduler.metrics import OUTCOMES
from services.scheduler.outcomes import Placed, Settled
from services.scheduler.rates import Speed
from services.scheduler.recording import Answered, Ended, Entry, Joined, Left
from services.scheduler.scheduler import Scheduler


class Witness:
    """On the desk's event loop; `record` must not wait."""

    def __init__(self, core: Scheduler, record: Callable[[Entry], None]) -> None:
        self._core = core
        self._record = record
        self._known: set[Member] = set()

    def answered(self, request: Request, outcome: Settled, at_s: float) -> None:
        """A request was placed or turned away."""
        name, speed = OUTCOMES[type(outcome)], self._speed(outcome)
        self._record(Answered(at_s, request, outcome, name, speed))

    def ended(self, key: Key, at_s: float, ttft_s: float | None, generated_tokens: int) -> None:
        """A placement is over."""
        self._record(Ended(at_s, key, ttft_s, generated_tokens))

    def fleet_changed(self, at_s: float) -> None:
        """Workers came or left."""
        members = set(self._core.fleet.members())
        for member in sorted(self._known - members, key=_by_id):
            self._record(Left(at_s, member.id))
        for member in sorted(members - self._known, key=_by_id):
            self._record(Joined(at_s, member.hello))
        self._known = members

    def _speed(self, outcome: Settled) -> Speed | None:
        """How fast the chosen worker is, where that is learned and not a guess."""
        member = self._core.fleet.member(outcome.worker_id) if isinstance(outcome, Placed) else None
        if member is None or not self._core.rates.known[member.slot]:
            return None
        return self._core.rates.speed(member.slot)


def _by_id(member: Member) -> str:
    return member.id
