"""Processes that get only a part of a core, so that they are the limit on a small machine."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICK_S = 0.004
BURST_S = 0.02
"""What was not used is kept for so long."""


@contextmanager
def given(share: float, pids: Iterable[int]) -> Iterator[None]:
    """Stop each of these processes while it has used more than its share, until the block is left.

    By what it has used, in all its threads, and not by the clock: so it does not matter what else
    the machine does.
    """
    if share >= 1.0:
        yield
        return
    over = threading.Event()
    allowances = [Allowance(share, pid) for pid in pids]
    thread = threading.Thread(target=_watch, args=(allowances, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Allowance:
    """What a process may use, in CPU seconds."""

    def __init__(self, share: float, pid: int) -> None:
        self._share = share
        self._pid = pid
        self._credit_s = 0.0
        self._used_s = _used_s(pid)
        self._stopped = False

    def passed(self, seconds: float) -> None:
        """Stop the process, or let it go on."""
        used_s = _used_s(self._pid)
        credit_s = self._credit_s + self._share * seconds - (used_s - self._used_s)
        self._credit_s = min(credit_s, self._share * BURST_S)
        self._used_s = used_s
        self._set_stopped(self._credit_s < 0)

    def release(self) -> None:
        """Let it go on, for good."""
        self._set_stopped(False)

    def _set_stopped(self, stopped: bool) -> None:
        if stopped != self._stopped:
            self._stopped = stopped
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGSTOP if stopped else signal.SIGCONT)


def _watch(allowances: list[Allowance], over: threading.Event) -> None:
    last_s = time.perf_counter()
    while not over.wait(TICK_S):
        now_s = time.perf_counter()
        for allowance in allowances:
            allowance.passed(now_s - last_s)
        last_s = now_s
    for allowance in allowances:
        allowance.release()


def _used_s(pid: int) -> float:
    """CPU seconds of the threads that live; to the nanosecond, where `stat` has hundredths."""
    used_ns = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            used_ns += int(thread.read_text().split()[0])
    return used_ns / 1e9
