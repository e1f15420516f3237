"""What processes take, from /proc: CPU and memory, with whatever they started."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds, user and system."""
    return sum(_each(pids, lambda process: sum(process.cpu_times()[:2])))


def rss_bytes(pids: Iterable[int]) -> float:
    """Resident memory."""
    return sum(_each(pids, lambda process: process.memory_info().rss))


def others_cpu_s() -> float:
    """CPU seconds that the machine spent since it started, less those of us and what we started."""
    spent = psutil.cpu_times()
    machine_s = sum(spent) - spent.idle - spent.iowait - spent.guest - spent.guest_nice
    ours_s = sum(_each([os.getpid()], lambda process: sum(process.cpu_times()[:4])))
    return machine_s - ours_s


def _each(pids: Iterable[int], figure: Callable[[psutil.Process], float]) -> list[float]:
    figures = []
    for pid in pids:
        process = psutil.Process(pid)
        figures.append(figure(process))
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                figures.append(figure(child))
    return figures
