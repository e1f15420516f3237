"""Sees what the desk does, and says it to the recording."""

from collections.abc import Callable

from services.scheduler.facts import Key, Report, Request
from services.scheduler.fleet import Member
from services.scheduler.metrics import OUTCOMES
from services.scheduler.outcomes import Settled
from services.scheduler.recording import Answered, Ended, Entry, Joined, Left, Worked
from services.scheduler.scheduler import Scheduler


class Witness:
    """On the desk's event loop; `record` must not wait."""

    def __init__(self, core: Scheduler, record: Callable[[Entry], None]) -> None:
        self._core = core
        self._record = record
        self._known: set[Member] = set()

    def answered(self, request: Request, outcome: Settled, at_s: float) -> None:
        """A request was placed or turned away."""
        self._record(Answered(at_s, request, outcome, OUTCOMES[type(outcome)]))

    def ended(self, key: Key, at_s: float, ttft_s: float | None, generated_tokens: int) -> None:
        """A placement is over."""
        self._record(Ended(at_s, key, ttft_s, generated_tokens))

    def reported(self, member: Member, report: Report, at_s: float) -> None:
        """A worker said how it fares."""
        if report.steps:
            self._record(Worked(at_s, member.id, report))

    def fleet_changed(self, at_s: float) -> None:
        """Workers came or left."""
        members = set(self._core.fleet.members())
        for member in sorted(self._known - members, key=_by_id):
            self._record(Left(at_s, member.id))
        for member in sorted(members - self._known, key=_by_id):
            self._record(Joined(at_s, member.hello))
        self._known = members


def _by_id(member: Member) -> str:
    return member.id
