import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from command.errors import CommandError
from command.state import (
    Life,
    Service,
    State,
    life_of,
    only_system,
    read_state,
    running,
    write_state,
)

ME = life_of(os.getpid())
STATE = State(ME, (Service("edge", 0, "127.0.0.1:8000", "127.0.0.1:50141", ME),), ready=True)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    assert running(tmp_path) == STATE


def test_a_new_state_leaves_no_other_file(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    write_state(tmp_path, replace(STATE, ready=False))
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_nothing_written_is_nothing_running(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    with pytest.raises(CommandError, match="nothing runs here"):
        running(tmp_path)


def test_a_pid_used_again_is_another_life(tmp_path: Path) -> None:
    stale = Life(ME.pid, ME.started - 3600)
    assert stale.is_over()
    write_state(tmp_path, replace(STATE, supervisor=stale))
    with pytest.raises(CommandError, match="nothing runs here"):
        running(tmp_path)


def test_a_life_ends_with_its_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        life = life_of(process.pid)
        assert not life.is_over()
        process.kill()
        assert life.wait_until_over()


def test_a_directory_is_held_by_one_system(tmp_path: Path) -> None:
    with (
        only_system(tmp_path),
        pytest.raises(CommandError, match="a system runs here already"),
        only_system(tmp_path),
    ):
        pass
    with only_system(tmp_path):
        pass
