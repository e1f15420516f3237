"""The simulated engine for peers: Headway's own step model, so that all have the same pace."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from services.worker.sim_core import Removed, SimCore, SimRun, SimSettings, Stored

MODEL_TOKENS = 8192
Emit = Callable[[int, bool], None]
"""Takes the number of a token, from 1 on, and whether it is the last."""


class Numbers:
    """A run's tokens; those that the engine adds are numbers and no text."""

    def __init__(self, tokens: Sequence[int], block_size: int) -> None:
        self.ids = list(tokens)
        self._block_size = block_size
        self._hashes: list[int] = []

    def __len__(self) -> int:
        return len(self.ids)

    def add_next(self) -> int:
        """Add a token; which one is nobody's business."""
        self.ids.append(0)
        return 0

    def block_hashes(self, full_blocks: int) -> Sequence[int]:
        """The chained hashes of the first blocks; at least `full_blocks` of them."""
        for index in range(len(self._hashes), full_blocks):
            parent = self._hashes[index - 1] if index else 0
            self._hashes.append(hash((parent, *self.block(index))))
        return self._hashes

    def block(self, index: int) -> list[int]:
        """The tokens of one block."""
        return self.ids[index * self._block_size : (index + 1) * self._block_size]


class Engine:
    """Steps the core in real time; each token goes to whoever submitted its run."""

    def __init__(self, settings: SimSettings) -> None:
        self._settings = settings
        self._core = SimCore(settings)
        self._emits: dict[str, Emit] = {}
        self._work = asyncio.Event()
        self.submitted = 0
        self.on_changes: Callable[[Iterable[Stored | Removed]], None] | None = None
        """Hears what changes in the cache."""

    @property
    def running(self) -> int:
        """Requests in the step."""
        return len(self._core.running)

    @property
    def waiting(self) -> int:
        """Requests before it."""
        return len(self._core.waiting)

    def submit(self, tokens: Sequence[int], max_tokens: int, emit: Emit) -> SimRun:
        """Begin a run."""
        self.submitted += 1
        run = SimRun(str(self.submitted), Numbers(tokens, self._settings.block_size), max_tokens)
        self._emits[run.run_id] = emit
        self._core.submit(run)
        self._work.set()
        return run

    def abort(self, run: SimRun) -> None:
        """End a run, unless it has ended."""
        if self._emits.pop(run.run_id, None) is not None:
            self._core.abort(run.run_id)

    async def run(self) -> None:
        """Step for ever."""
        next_s = time.perf_counter()
        while True:
            if self._core.is_idle:
                self._work.clear()
                await self._work.wait()
                next_s = time.perf_counter()
            step = self._core.begin()
            now_s = time.perf_counter()
            # Absolute times: what a sleep overshoots, the next one makes up for.
            next_s = max(next_s + step.duration_s, now_s)
            await asyncio.sleep(next_s - now_s)
            self._hand_out()
            changes = self._core.take_changes()
            if self.on_changes is not None:
                self.on_changes(changes)

    def _hand_out(self) -> None:
        for each in self._core.finish():
            run_id = each.run.run_id
            emit = self._emits.pop(run_id) if each.is_last else self._emits[run_id]
            emit(each.run.made, each.is_last)
