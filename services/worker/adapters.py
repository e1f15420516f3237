"""The adapters that the engine holds: loaded before their first use, unloaded to make room.

The engine never loads or evicts one by itself: a run reaches it when its adapter is loaded, and
no more are loaded than it has slots for. So what is said here to be loaded is. vLLM would load
in the middle of a step, and die of a bad path.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from services.worker.engine import AdapterRefused, Engine, EngineBroken, Run
from services.worker.metrics import Metrics
from services.worker.reports import AdapterLoad

RETRY_S = 10.0  # an adapter that could not be loaded is not tried again for so long
MOST_LOADS_KEPT = 256  # timings that wait for the next report


@dataclass(frozen=True, slots=True)
class _Failed:
    until_s: float
    message: str


class Adapters:
    """Which adapters are loaded, and for whom. Only this object loads and unloads."""

    def __init__(
        self, engine: Engine, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.slots = 0  # until the engine is up
        self.loads: deque[AdapterLoad] = deque(maxlen=MOST_LOADS_KEPT)
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._loaded: dict[str, None] = {}  # the least recently used first
        self._users: dict[str, set[str]] = {}  # the runs of each
        self._failed: dict[str, _Failed] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}  # by run
        self._one_at_a_time = asyncio.Lock()
        self._fell_idle = asyncio.Event()
        self._nobody_needs_a_slot = asyncio.Event()
        self._nobody_needs_a_slot.set()
        self._log = structlog.get_logger(service="worker")

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the adapters that are loaded now, in order."""
        return tuple(sorted(self._loaded))

    @asynccontextmanager
    async def held(self, run: Run) -> AsyncIterator[None]:
        """Keep a run's adapter loaded. Waits for it, unless `give_up` ends the wait.

        Raises AdapterRefused or EngineBroken when it cannot be loaded.
        """
        if not run.adapter:
            yield
            return
        try:
            if not self._take(run):
                await self._wait(run)
            yield
        finally:
            self._release(run)

    def give_up(self, run_ids: Sequence[str]) -> None:
        """Let these runs wait no longer: they are to end."""
        for run_id in run_ids:
            if run_id in self._waiting:
                self._waiting[run_id].cancel()

    def _take(self, run: Run) -> bool:
        """Use the adapter if it is loaded. Nobody overtakes an adapter that needs a slot: else
        those in use could keep it out for ever."""
        if not self._nobody_needs_a_slot.is_set() or run.adapter not in self._loaded:
            return False
        self._users.setdefault(run.adapter, set()).add(run.run_id)
        self._loaded[run.adapter] = self._loaded.pop(run.adapter)
        return True

    def _release(self, run: Run) -> None:
        users = self._users.get(run.adapter, set())
        users.discard(run.run_id)
        if not users:
            self._users.pop(run.adapter, None)
            self._fell_idle.set()

    async def _wait(self, run: Run) -> None:
        waiting = self._waiting[run.run_id] = asyncio.create_task(self._prepare(run))
        try:
            (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        finally:
            del self._waiting[run.run_id]
        if isinstance(outcome, Exception):  # a wait that was given up is none
            raise outcome

    async def _prepare(self, run: Run) -> None:
        name = run.adapter
        while not self._take(run):
            if name in self._loaded:
                await self._nobody_needs_a_slot.wait()
                continue
            self._refuse_what_just_failed(name)
            self._users.setdefault(name, set()).add(run.run_id)
            # Whoever gives up must not take the others' load with it.
            await asyncio.shield(self._load_of(name))
            if name in self._loaded:
                return  # and stays, because the run counts as its user already

    def _refuse_what_just_failed(self, name: str) -> None:
        failed = self._failed.get(name)
        if failed is not None and self._clock() < failed.until_s:
            raise AdapterRefused(failed.message)

    def _load_of(self, name: str) -> "asyncio.Task[None]":
        loading = self._loading.get(name)
        if loading is None:
            loading = self._loading[name] = asyncio.create_task(self._load(name))
            loading.add_done_callback(lambda ended: self._loading_ended(name, ended))
        return loading

    def _loading_ended(self, name: str, ended: "asyncio.Task[None]") -> None:
        del self._loading[name]
        if not ended.cancelled():
            ended.exception()  # those who wait raise it, and they may all have gone

    async def _load(self, name: str) -> None:
        async with self._one_at_a_time:
            if not await self._has_room_for(name):
                return
            began_s = self._clock()
            try:
                await self._engine.load_adapter(name)
            except AdapterRefused as error:
                self._failed[name] = _Failed(self._clock() + RETRY_S, str(error))
                self._log.warning("an adapter cannot be loaded", adapter=name)
                raise
            self._failed.pop(name, None)
            self._loaded[name] = None
            load_s = self._clock() - began_s
            self.loads.append(AdapterLoad(name, load_s))
            self._metrics.adapter_load_seconds.observe(load_s)

    async def _has_room_for(self, name: str) -> bool:
        """Make room; false when nobody wants the adapter any more."""
        try:
            while len(self._loaded) >= self.slots and name in self._users:
                idle = next((each for each in self._loaded if each not in self._users), None)
                if idle is not None:
                    await self._unload(idle)
                    continue
                self._nobody_needs_a_slot.clear()
                self._fell_idle.clear()
                await self._fell_idle.wait()
        finally:
            self._nobody_needs_a_slot.set()
        return name in self._users

    async def _unload(self, name: str) -> None:
        del self._loaded[name]  # at once: nobody may take it while it goes
        try:
            await self._engine.unload_adapter(name)
        except EngineBroken:
            self._loaded[name] = None  # it holds its slot still; last, so that others go first
            raise
