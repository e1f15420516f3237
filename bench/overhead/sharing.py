"""Processes that get only a part of a core, so that they are the limit on a small machine."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

PERIOD_S = 0.02


@contextmanager
def given(share: float, pids: Iterable[int]) -> Iterator[None]:
    """Stop these processes for the rest of every 20 ms, until the block is left."""
    if share >= 1.0:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_take_turns, args=(share, tuple(pids), over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _take_turns(share: float, pids: tuple[int, ...], over: threading.Event) -> None:
    next_s = time.perf_counter()
    while not over.is_set():
        _send(signal.SIGCONT, pids)
        time.sleep(share * PERIOD_S)
        _send(signal.SIGSTOP, pids)
        next_s = max(next_s + PERIOD_S, time.perf_counter())
        time.sleep(max(0.0, next_s - time.perf_counter()))
    _send(signal.SIGCONT, pids)


def _send(number: signal.Signals, pids: tuple[int, ...]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
