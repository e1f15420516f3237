"""What the edge knows of the fleet, over the lives of a scheduler."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from headway.scheduler.v1 import scheduler_pb2 as pb
from services.edge.fleet import Fleet


def worker(name: str) -> pb.FleetWorker:
    return pb.FleetWorker(worker_id=name, address=f"{name}:1", models=["m"], max_model_tokens=9)


class Lives:
    """A scheduler that says one thing a life; its last life goes on."""

    def __init__(self, *lives: list[pb.FleetWorker]) -> None:
        self._lives = iter(lives)
        self._count = len(lives)

    async def WatchFleet(self, request: Any) -> AsyncIterator[pb.WatchFleetResponse]:
        yield pb.WatchFleetResponse(workers=next(self._lives))
        self._count -= 1
        if not self._count:
            await asyncio.Event().wait()


async def known_after(lives: Lives, rejoin_s: float, changes: int) -> list[str]:
    """The ids of the workers that are known after so many changes."""
    fleet: Fleet = Fleet(lives, rejoin_s)  # type: ignore[arg-type]
    seen = asyncio.Semaphore(0)
    fleet.changed = seen.release
    following = asyncio.create_task(fleet.run())
    for _ in range(changes):
        await seen.acquire()
    following.cancel()
    await asyncio.wait([following])
    return [each.id for each in fleet.workers]


async def test_a_scheduler_that_restarted_is_not_believed_at_once() -> None:
    lives = Lives([worker("a"), worker("b")], [worker("b"), worker("c")])
    assert await known_after(lives, rejoin_s=60, changes=2) == ["a", "b", "c"]


async def test_a_scheduler_that_restarted_is_believed_in_the_end() -> None:
    lives = Lives([worker("a"), worker("b")], [worker("c")])
    assert await known_after(lives, rejoin_s=0.01, changes=3) == ["c"]
