"""What arrived for one exchange and was not read yet."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from headway.worker.v1 import worker_pb2 as pb

Source = TypeVar("Source")
# Whose delta it is, the delta (None: the pipe broke), and when its frame came, monotonic seconds.
Arrival = tuple[Source, pb.Delta | None, float]
# Takes a choice's new text past the inbox; false when it cannot.
Lane = Callable[[int, str], bool]


class Inbox(Generic[Source]):
    """The deltas that arrived for one exchange and were not read yet. Bounded.

    `lane` is the fast way past the inbox. It is open (`open_lane`) only while the inbox is empty
    and its reader waits: whatever is put in closes it until the reader has dealt with that, so
    nothing overtakes.
    """

    __slots__ = ("_arrived", "_limit", "_waiting", "lane", "open_lane", "overflowed")

    def __init__(self, limit: int) -> None:
        self._arrived: list[Arrival[Source]] = []
        self._waiting: asyncio.Future[None] | None = None
        self._limit = limit
        self.lane: Lane | None = None
        self.open_lane: Lane | None = None
        self.overflowed = False

    def put(self, arrival: Arrival[Source]) -> bool:
        """Take an arrival in; one that finds the inbox full is dropped, and ends the exchange."""
        self.open_lane = None
        fits = len(self._arrived) < self._limit
        if fits:
            self._arrived.append(arrival)
        else:
            self.overflowed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        return fits

    async def take(self) -> list[Arrival[Source]]:
        """All that arrived, in order; waits for the first."""
        if not self._arrived:
            self._waiting = asyncio.get_running_loop().create_future()
            self.open_lane = self.lane
            try:
                await self._waiting
            finally:
                self._waiting = self.open_lane = None
        arrived, self._arrived = self._arrived, []
        return arrived
