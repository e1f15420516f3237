"""The tasks that own the long-lived streams: they run for as long as the edge does."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

from structlog.stdlib import BoundLogger


class OwnerDied(Exception):
    """A stream's owner ended by itself. The message is one line for the operator."""


@asynccontextmanager
async def owned(
    owners: Sequence[tuple[str, Coroutine[None, None, None]]], log: BoundLogger
) -> AsyncIterator[None]:
    """Run these, each with its name, beside the block.

    When one ends by itself, whoever needs its stream would wait for ever: the block is cancelled,
    so that what can still be answered is, and then OwnerDied is raised.
    """
    block = asyncio.current_task()
    assert block is not None, "a coroutine runs in a task"
    dead: list[OwnerDied] = []

    def ended(task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        dead.append(OwnerDied(f"{task.get_name()} ended by itself: {error!r}"))
        log.error("a stream's owner died", owner=task.get_name(), exc_info=error)
        block.cancel()

    tasks = [asyncio.create_task(owner, name=name) for name, owner in owners]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.remove_done_callback(ended)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if dead:
            block.uncancel()
            raise dead[0]
