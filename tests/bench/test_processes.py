"""Processes that are started for a measurement, and what they are given."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.overhead import usage
from bench.overhead.children import NotMeasured, free_port, started, until_listens
from bench.overhead.sharing import given

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
BUSY = [sys.executable, "-c", "while True: pass"]


def test_a_process_ends_with_its_block(tmp_path: Path) -> None:
    with started(SLEEPER, tmp_path / "log") as child:
        assert psutil.pid_exists(child.pid)
    assert child.returncode is not None
    assert not psutil.pid_exists(child.pid)


def test_one_that_will_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    log = tmp_path / "log"
    command = [sys.executable, "-c", f"{stubborn}; time.sleep(60)"]
    with started(command, log, end_s=0.1) as child:
        while not log.read_text():
            time.sleep(0.01)
    assert child.returncode == -9


def test_one_that_ends_early_is_not_waited_for(tmp_path: Path) -> None:
    with started([sys.executable, "-c", ""], tmp_path / "log") as child:
        child.wait(10)
        with pytest.raises(NotMeasured):
            until_listens(free_port(), child)


def test_a_share_is_taken_and_given_back(tmp_path: Path) -> None:
    with started(BUSY, tmp_path / "log") as child:
        with given(0.1, [child.pid]):
            time.sleep(0.1)
            before_s = usage.cpu_s([child.pid])
            time.sleep(0.5)
            spent_s = usage.cpu_s([child.pid]) - before_s
        assert spent_s < 0.2  # a tenth is 0.05
        assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED


def test_a_whole_share_stops_nobody() -> None:
    with given(1.0, [0]):  # nobody has this number
        pass
