"""A run's outputs on their way out of an engine's step, to whoever asked for the run."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from services.worker.engine import EngineBroken

Brought = TypeVar("Brought")

log = structlog.get_logger(service="worker")


class Delivery(Generic[Brought]):
    """Has one run's outputs taken within the steps that bring them; its task sleeps until `over`.

    `take` returns whether the run goes on.
    """

    __slots__ = ("_take", "over")

    def __init__(self, take: Callable[[Brought], bool]) -> None:
        self._take = take
        # Who awaits it and is cancelled cancels it too, at once: nothing is taken after that.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is taken."""
        return self.over.done()

    def put(self, brought: Brought) -> None:
        """Have it taken, unless the run is over. Raises nothing."""
        if self.over.done():
            return
        try:
            goes_on = self._take(brought)
        # Whatever it is, it is this run's: the step that we are in is every run's, and vLLM's
        # output task would end with it.
        except Exception:
            log.exception("a run's output could not be taken")
            self.fail(EngineBroken("a run's output could not be taken"))
            return
        if not goes_on:
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the run with an error, which whoever awaits `over` gets."""
        if not self.over.done():
            self.over.set_exception(error)
