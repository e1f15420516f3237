"""Jobs go to threads, and what becomes of them to who waits."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from services.tokenizer.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    with Threads(2) as threads:
        yield threads


async def test_the_result_comes_back_from_another_thread(threads: Threads) -> None:
    assert await threads.begin(divmod, 17, 5) == (3, 2)
    assert (await threads.begin(threading.current_thread)).name.startswith("encode_")


async def test_so_many_run_at_the_same_time(threads: Threads) -> None:
    together = threading.Barrier(2, timeout=5)
    waits = [threads.begin(together.wait) for _ in range(4)]
    assert sorted(await asyncio.gather(*waits)) == [0, 0, 1, 1]


async def test_a_failure_is_raised_where_it_is_waited_for_and_the_thread_goes_on() -> None:
    with Threads(1) as one:
        with pytest.raises(ZeroDivisionError):
            await one.begin(divmod, 1, 0)
        assert await one.begin(divmod, 1, 1) == (1, 0)


async def test_nobody_may_be_waiting_any_more(threads: Threads) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def job() -> bool:
        entered.set()
        return go_on.wait(5)

    waiting = threads.begin(job)
    await asyncio.to_thread(entered.wait, 5)
    waiting.cancel()
    go_on.set()
    assert await threads.begin(divmod, 1, 1) == (1, 0)
    assert waiting.cancelled()


async def test_closing_waits_for_what_was_begun() -> None:
    done = []

    def job(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    with Threads(1) as one:
        for number in range(3):
            one.begin(job, number)
    assert done == [0, 1, 2]
