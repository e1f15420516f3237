"""When a service that died is started again. Pure.

After the first death soon, after each further one later, and after too many in too short a time
not at all: what dies at once every time needs a person.
"""

from dataclasses import dataclass, field

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
WINDOW_S = 300.0
LIMIT = 8


@dataclass(slots=True)
class Restarts:
    """The deaths of one service that still count: those in the window."""

    _deaths_s: list[float] = field(default_factory=list)

    def delay(self, now_s: float) -> float | None:
        """Seconds to wait after a death at `now_s`; None when it is not started again."""
        self._deaths_s = [death for death in self._deaths_s if now_s - death < WINDOW_S]
        self._deaths_s.append(now_s)
        deaths = len(self._deaths_s)
        if deaths > LIMIT:
            return None
        return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (deaths - 1)))
