"""`headway up` as a process: what it refuses, how it ends, what it leaves behind."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.system import System, free_port, headway, system

QUICK = ("--engine", "sim", "--workers", "1")
# Ending takes at most 10 s by promise; the guardian's part, after SIGKILL, a few seconds.
SOON_S = 10


def refusal(home: Path, *flags: str) -> str:
    """What a failing `up` says; checks that it is one line, and that nothing is left."""
    result = headway(home, "up", *flags)
    assert result.returncode == 1
    assert result.stderr.startswith("headway: ")
    assert result.stderr.count("\n") == 1
    assert not (home / "state.json").exists()
    assert not processes_of(home)
    return result.stderr


def processes_of(home: Path) -> list[int]:
    """All processes that have this state's variable: `up`, services, and what they started."""
    return [process.pid for process in psutil.process_iter() if _has_home(process, home)]


def _has_home(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("HEADWAY_STATE") == str(home)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in refusal(tmp_path, *QUICK, "--port", str(port))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param("--model /no/such/model", "/no/such/model is no directory", id="model"),
        pytest.param("--policy best", "--policy best is not known", id="policy"),
        pytest.param("--engine sim --sim speed=1", "--sim speed is not known", id="sim"),
        pytest.param("--engine sim --workers 9999", "too little memory", id="memory"),
        pytest.param("--tenants /no/such/file", "--tenants /no/such/file: ", id="no-tenants"),
        pytest.param("--tenants README.md", "--tenants README.md: ", id="no-tenants-file"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path: Path, flags: str, says: str) -> None:
    assert says in refusal(tmp_path, *flags.split())


def test_a_service_that_dies_during_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_QUEUE_LIMIT", "none")
    said = refusal(tmp_path, *QUICK)
    assert "scheduler-0 ended with code 2: " in said
    assert "SCHEDULER_QUEUE_LIMIT must be" in said
    assert "scheduler-0.log" in said


def test_a_start_that_takes_too_long(tmp_path: Path) -> None:
    assert "is not ready after 0.01 s" in refusal(tmp_path, *QUICK, "--start-timeout", "0.01")


def test_nothing_runs_and_every_command_says_so(tmp_path: Path) -> None:
    assert headway(tmp_path, "ps", "--json").stdout.strip() == "[]"
    down = headway(tmp_path, "down")
    assert (down.returncode, down.stdout) == (0, "nothing runs here\n")
    for command in (["workers"], ["trace"], ["drain", "worker-0"]):
        result = headway(tmp_path, *command)
        assert result.returncode == 1
        assert result.stderr == "headway: nothing runs here; start it with `headway up`\n"


@pytest.fixture(scope="module")
def running(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("up"), *QUICK) as it:
        yield it


def test_ps_lists_every_process_and_all_are_ready(running: System) -> None:
    rows = running.ps()
    keys = {"service", "index", "pid", "address", "metrics_address", "ready"}
    assert [row["service"] for row in rows] == ["scheduler", "tokenizer", "worker", "edge"]
    assert all(set(row) == keys and row["ready"] for row in rows)
    assert "worker" in running.headway("ps").stdout


def test_it_ends_with_commands_that_work(running: System) -> None:
    assert f"curl {running.url}/v1/chat/completions" in running.output()


def test_the_fleet_is_listed(running: System) -> None:
    listed = running.headway("workers").stdout
    assert "worker-0" in listed
    assert "policy predicted" in listed


def test_a_second_system_in_the_same_place_is_refused(running: System) -> None:
    result = running.headway("up", *QUICK, "--port", "1")
    assert result.returncode == 1
    assert "a system runs here already" in result.stderr
    assert all(row["ready"] for row in running.ps())


def test_draining_an_unknown_worker_says_so(running: System) -> None:
    result = running.headway("drain", "nobody")
    assert result.returncode == 1
    assert result.stderr.startswith("headway: the scheduler says: ")


def test_a_service_that_dies_is_started_again(running: System) -> None:
    [before] = running.ps("worker")
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: running.ps("worker")[0]["pid"] != before["pid"])
    wait_until(lambda: bool(running.ps("worker")[0]["ready"]))
    [after] = running.ps("worker")
    assert after["address"] == before["address"]
    assert "worker-0 ended with code -9" in running.output()
    assert "starting again in 1 s" in running.output()


def test_killed_it_leaves_nothing_and_can_start_again(demo_model: Path, tmp_path: Path) -> None:
    with system(tmp_path, *QUICK) as it:
        it.up.kill()
        it.up.wait()
        wait_until(lambda: not processes_of(tmp_path))
        assert it.ps() == []
        assert headway(tmp_path, "down").stdout == "nothing runs here\n"
    with system(tmp_path, *QUICK) as it:
        assert len(it.ps()) == 4
        it.up.terminate()
        assert it.up.wait(SOON_S) == 0
        assert not processes_of(tmp_path)


def test_in_the_background(demo_model: Path, tmp_path: Path) -> None:
    up = headway(tmp_path, "up", *QUICK, "--detach", "--port", str(free_port()))
    try:
        assert (up.returncode, up.stderr) == (0, "")
        assert "edge-0       ready" in up.stdout
        assert "/v1/chat/completions" in up.stdout
        assert headway(tmp_path, "ps", "--json").stdout.count('"ready": true') == 4
    finally:
        down = headway(tmp_path, "down")
    assert (down.returncode, down.stdout) == (0, "stopped 4 processes\n")
    assert not processes_of(tmp_path)


def test_in_the_background_a_failure_is_one_line_too(tmp_path: Path) -> None:
    up = headway(tmp_path, "up", *QUICK, "--detach", "--model", "/no/such/model")
    assert up.returncode == 1
    assert up.stderr == "headway: --model /no/such/model is no directory\n"
    assert up.stdout == ""
