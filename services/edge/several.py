"""Does the same for each of many, a bounded number at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.edge.apis.refusals import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


async def each(
    work: Callable[[int, Item], Awaitable[Result | Refusal]], items: Sequence[Item], at_once: int
) -> list[Result] | Refusal:
    """The results in the items' order. The first refusal ends the others, and is the answer."""
    results: dict[int, Result] = {}
    waiting = iter(enumerate(items))

    async def lane() -> Refusal | None:
        for position, item in waiting:
            result = await work(position, item)
            if isinstance(result, Refusal):
                return result
            results[position] = result
        return None

    lanes = [asyncio.create_task(lane()) for _ in range(min(at_once, len(items)))]
    try:
        for ended in asyncio.as_completed(lanes):
            refusal = await ended
            if refusal is not None:
                return refusal
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    return [results[position] for position in range(len(items))]
