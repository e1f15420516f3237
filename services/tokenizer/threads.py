"""Threads that encode, away from the event loop.

Not `concurrent.futures`: its locks and callbacks take some 70 µs of each hand-over, as much as a
short prompt (docs/benchmarks/tokenizer.md). Here it is a queue there and a wake-up back.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    call: Callable[..., T]
    arguments: tuple[Any, ...]
    future: "asyncio.Future[T]"

    def do(self) -> None:
        """Call, and hand the result to the loop of who waits for it."""
        loop = self.future.get_loop()
        try:
            result = self.call(*self.arguments)
        except Exception as error:  # noqa: BLE001 -- raised again where it is waited for
            loop.call_soon_threadsafe(self._end, error, None)
        else:
            loop.call_soon_threadsafe(self._end, None, result)

    def _end(self, error: Exception | None, result: Any) -> None:
        if self.future.done():
            return  # who waited has gone
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Threads:
    """So many threads, from entering the block to leaving it, which closes them."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, name=f"encode_{n}") for n in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until all that was begun is done."""
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def begin(self, call: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """Have this called by the next free thread."""
        job = _Job(call, arguments, asyncio.get_running_loop().create_future())
        self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
