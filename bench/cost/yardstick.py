"""What this build of Python costs: plain code that no change to Headway makes dearer or cheaper.

Two builds of one Python version differ by a tenth in the instructions that they take for the same
code. The yardstick is counted beside the workloads, and scales what is expected of them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.cost.workload import Run


@dataclass(frozen=True, slots=True)
class _Item:
    name: str
    size: int
    parts: tuple[bytes, ...]

    @property
    def is_large(self) -> bool:
        return self.size > 64


class _Shelf:
    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self.written = 0

    def put(self, item: _Item) -> bool:
        if item.is_large or item.name in self._items:
            return False
        self._items[item.name] = item
        return True

    def take(self, name: str) -> bytes:
        item = self._items.pop(name, None)
        if item is None:
            return b""
        body = b"".join(item.parts) + b"%x\r\n" % item.size
        self.written += len(body)
        return body


@asynccontextmanager
async def code() -> AsyncIterator[Run]:
    """A unit makes, keeps and takes back one value, and waits once."""
    loop = asyncio.get_running_loop()
    shelf = _Shelf()

    async def waited(name: str) -> bytes:
        future: asyncio.Future[str] = loop.create_future()
        future.set_result(name)
        return shelf.take(await future)

    async def run(units: int) -> None:
        for number in range(units):
            name = f"item-{number % 7}"
            parts = tuple(bytes([each]) for each in range(4))
            if shelf.put(_Item(name, number % 32, parts)):
                assert await waited(name)
            found: dict[int | str, int] = {each: len(part) for each, part in enumerate(parts)}
            found = {**found, "n": number}
            assert sorted(map(str, found))

    yield run
    assert shelf.written
