"""Records traffic to a file, off the event loop. What it cannot keep up with, it drops and counts.

Two files at most, FILE and FILE.1, the older: each up to half of the limit, or twice its head
where that is more: a file that the fleet alone fills would hold no traffic.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from services.scheduler.metrics import Metrics
from services.scheduler.recording import Entry, Joined, Left, write_entry, write_head

WAITING_LIMIT = 4096
"""Entries that wait for the disk: a second or two of traffic."""


class Recorder:
    """Between the event loop, which must not wait, and the file."""

    def __init__(
        self, file: "RecordingFile", metrics: Metrics, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._file = file
        self._metrics = metrics
        self._log = log
        self._waiting: deque[Entry] = deque()
        self._come = asyncio.Event()
        self._failed = False
        self._closed = False
        self.writing = asyncio.create_task(self._write_all())
        """The recording is not alive without this task."""

    def record(self, entry: Entry) -> None:
        """Take an entry, at once."""
        if self._failed or len(self._waiting) >= WAITING_LIMIT:
            self._metrics.record_drops.inc()
            return
        self._waiting.append(entry)
        self._come.set()

    async def close(self) -> None:
        """Write what has come, and no more."""
        self._closed = True
        self._come.set()
        await self.writing

    async def _write_all(self) -> None:
        while self._waiting or not self._closed:
            await self._come.wait()
            self._come.clear()
            await self._write()
        await self._on_disk(self._file.close)

    async def _write(self) -> None:
        entries, self._waiting = self._waiting, deque()
        written = await self._on_disk(self._file.write, entries)
        (self._metrics.recorded if written else self._metrics.record_drops).inc(len(entries))

    async def _on_disk(self, work: Callable[..., None], *given: object) -> bool:
        try:
            await asyncio.to_thread(work, *given)
        except OSError as error:  # a full disk must not end the scheduler
            self._failed = True
            self._log.error("recording stopped", file=str(self._file.path), reason=str(error))
            return False
        return True


class RecordingFile:
    """Lines on disk. Begins behind what an earlier run left; times count from its making."""

    def __init__(self, path: Path, limit_bytes: int, policy: str) -> None:
        """Raises OSError when the file cannot be written."""
        self.path = path
        self._half_bytes = limit_bytes // 2
        self._policy = policy
        self._began_s = time.monotonic()
        self._began_unix_s = time.time()
        self._joined: dict[str, Joined] = {}
        self._begin()

    def write(self, entries: deque[Entry]) -> None:
        """Write entries in their order. Raises OSError."""
        for entry in entries:
            line = write_entry(entry, self._began_s).encode()
            if self._is_full(len(line)):
                self._turn_over()
            self._note(entry)
            self._file.write(line)
        self._file.flush()

    def close(self) -> None:
        """Nothing comes any more."""
        self._file.close()

    def _is_full(self, more_bytes: int) -> bool:
        there = self._file.tell()
        most = max(self._half_bytes, 2 * self._head_bytes)
        return there > self._head_bytes and there + more_bytes > most

    def _turn_over(self) -> None:
        self._file.close()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._begin()

    def _begin(self) -> None:
        self._file = self.path.open("ab")
        left_bytes = self._file.tell()
        if left_bytes:
            self._file.write(b"\n")  # should an earlier run have been killed in mid-line
        self._file.write(write_head(self._policy, self._began_unix_s).encode())
        for joined in self._joined.values():
            self._file.write(write_entry(joined, self._began_s).encode())
        self._head_bytes = self._file.tell() - left_bytes
        self._file.flush()

    def _note(self, entry: Entry) -> None:
        if isinstance(entry, Joined):
            self._joined[entry.hello.worker_id] = entry
        elif isinstance(entry, Left):
            self._joined.pop(entry.worker_id, None)
