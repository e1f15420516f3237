"""What a workload is: set up once, then run for as many units as are counted. Pure."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

Run = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Workload:
    """`staged` gives what runs so many units; `units` of them are counted at once."""

    unit: str
    units: int
    staged: Callable[[], AbstractAsyncContextManager[Run]]
