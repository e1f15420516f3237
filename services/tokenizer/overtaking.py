"""A stream of questions answered as they finish: later answers may overtake earlier ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def overtake(
    read: Callable[[], Awaitable[Q | None]],
    begin: Callable[[Q], "asyncio.Future[A]"],
    limit: int,
    draining: asyncio.Event,
) -> AsyncIterator[A]:
    """Yield the answer of each question, `limit` of them at a time.

    `read` gives None when no more will come. From then on, or once `draining` is set, nothing
    is read, and the iterator ends when all that was read is answered.
    """
    finished: asyncio.Queue[asyncio.Future[A] | None] = asyncio.Queue()
    free = asyncio.Semaphore(limit)
    begun = 0

    async def begin_all() -> None:
        nonlocal begun
        # A place comes first: what has been read is always begun, and so answered.
        while await free.acquire() and (question := await read()) is not None:
            begun += 1
            begin(question).add_done_callback(finished.put_nowait)

    reader = asyncio.ensure_future(begin_all())
    reader.add_done_callback(lambda _: finished.put_nowait(None))
    drain = asyncio.ensure_future(draining.wait())
    drain.add_done_callback(lambda _: reader.cancel())
    try:
        answered = 0
        while answered < begun or not reader.done():
            if (answer := await finished.get()) is not None:
                answered += 1
                free.release()
                yield answer.result()
    finally:
        drain.cancel()  # and with it the reader
