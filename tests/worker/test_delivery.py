"""A run's outputs leave a step at once, and can do it no harm."""

import asyncio

import pytest

from services.worker.delivery import Delivery
from services.worker.engine import EngineBroken


class Taker:
    """Takes numbers; 0 is the last, and what is below it cannot be taken."""

    def __init__(self) -> None:
        self.took: list[int] = []

    def take(self, number: int) -> bool:
        if number < 0:
            raise ValueError("a secret")
        self.took.append(number)
        return number > 0


async def test_each_is_taken_at_once_and_none_after_the_last() -> None:
    taker = Taker()
    delivery = Delivery(taker.take)
    for number in (2, 1, 0, 3):
        delivery.put(number)
    assert taker.took == [2, 1, 0]
    await delivery.over


async def test_who_waits_sleeps_until_the_last() -> None:
    taker, turns = Taker(), 0
    delivery = Delivery(taker.take)

    async def wait() -> None:
        nonlocal turns
        await delivery.over
        turns += 1

    waiting = asyncio.create_task(wait())
    for number in (3, 2, 1):
        delivery.put(number)
        await asyncio.sleep(0)
    assert turns == 0
    delivery.put(0)
    await waiting
    assert turns == 1


async def test_what_cannot_be_taken_breaks_the_run_and_not_the_step() -> None:
    taker = Taker()
    delivery = Delivery(taker.take)
    for number in (1, -1, 2):
        delivery.put(number)
    with pytest.raises(EngineBroken) as broken:
        await delivery.over
    assert "secret" not in str(broken.value)
    assert taker.took == [1]


async def test_the_first_end_counts() -> None:
    delivery = Delivery(Taker().take)
    delivery.put(0)
    delivery.fail(EngineBroken("too late"))
    await delivery.over


async def test_nothing_is_taken_once_the_waiting_task_is_cancelled() -> None:
    taker = Taker()
    delivery = Delivery(taker.take)

    async def wait() -> None:
        await delivery.over

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    delivery.put(1)  # before the task knows
    assert taker.took == []
    with pytest.raises(asyncio.CancelledError):
        await waiting
