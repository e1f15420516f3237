"""Which adapters are loaded where, and what loading one costs. Pure.

A loaded adapter counts like a cached prefix. One that a placed request uses is loaded there,
or about to be: it counts at once, so that a burst for a new adapter does not load it everywhere.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from services.scheduler.facts import AdapterLoad, Key

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]

PRIOR_S = 0.2
"""Some ten megabytes from a disk into an engine between two of its steps."""
KEEP = 0.7
"""What the mean keeps of its past at each load."""


class Adapters:
    """Loaded adapters and load times, in columns by slot."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._cost_s = np.full(slots, PRIOR_S)
        self._known = np.zeros(slots, np.bool_)  # those that reported a load
        self._reported: dict[int, frozenset[str]] = {}
        self._users: dict[tuple[int, str], set[Key]] = {}
        self._loaded: dict[str, npt.NDArray[np.bool_]] = {}  # those that are anywhere

    def load_s(self, adapter: str, slots: Slots) -> Floats | float:
        """Seconds to load the adapter on each of these workers; nothing where it is loaded."""
        if not adapter:
            return 0.0
        cost_s: Floats = self._cost_s[slots]
        loaded = self._loaded.get(adapter)
        if loaded is not None:
            cost_s[loaded[slots]] = 0.0
        return cost_s

    def join(self, slot: int) -> None:
        """A worker joins: until it reports a load, it is like the mean of those that did."""
        self._known[slot] = False
        self._guess()

    def leave(self, slot: int) -> None:
        """A worker is gone, with all that it had loaded."""
        self._known[slot] = False
        gone = {adapter for place, adapter in self._users if place == slot}
        gone |= self._reported.pop(slot, frozenset())
        for adapter in gone:
            self._users.pop((slot, adapter), None)
            self._write(slot, adapter)

    def report(self, slot: int, loaded: Iterable[str], loads: Iterable[AdapterLoad]) -> None:
        """A worker says what it has loaded, and how long its last loads took."""
        before, now = self._reported.get(slot, frozenset()), frozenset(loaded)
        for load in loads:
            self._learn(slot, load.load_us / 1e6)
        if now != before:
            self._reported[slot] = now
            for adapter in before ^ now:
                self._write(slot, adapter)

    def use(self, slot: int, adapter: str, key: Key) -> None:
        """A request that needs the adapter was placed there."""
        if adapter:
            self._users.setdefault((slot, adapter), set()).add(key)
            self._write(slot, adapter)

    def end_use(self, slot: int, adapter: str, key: Key, *, was_loaded: bool) -> None:
        """The request ended; when it had a token, the adapter was loaded for it."""
        users = self._users.get((slot, adapter))
        if users is None or key not in users:
            return  # the worker was out of the fleet meanwhile
        users.discard(key)
        if not users:
            del self._users[slot, adapter]
        if was_loaded:  # the report that says so may come later
            self._reported[slot] = self._reported.get(slot, frozenset()) | {adapter}
        self._write(slot, adapter)

    def _learn(self, slot: int, load_s: float) -> None:
        past_s = float(self._cost_s[slot]) if self._known[slot] else load_s
        self._known[slot] = True
        self._cost_s[slot] = KEEP * past_s + (1 - KEEP) * load_s
        self._guess()

    def _guess(self) -> None:
        known = self._cost_s[self._known]
        self._cost_s[~self._known] = known.mean() if len(known) else PRIOR_S

    def _write(self, slot: int, adapter: str) -> None:
        is_loaded = adapter in self._reported.get(slot, ()) or (slot, adapter) in self._users
        column = self._loaded.get(adapter)
        if column is None:
            column = self._loaded[adapter] = np.zeros(self._slots, np.bool_)
        column[slot] = is_loaded
        if not is_loaded and not column.any():
            del self._loaded[adapter]
