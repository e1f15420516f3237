"""`headway up --detach`: the same `up`, in the background, watched until it is ready."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from command.errors import PREFIX, CommandError
from command.logs import last_line
from command.state import read_state, state_home

POLL_S = 0.1


def up_detached(arguments: Sequence[str]) -> None:
    """Run `headway` with `arguments` in the background; return when everything is ready."""
    home = state_home()
    home.mkdir(parents=True, exist_ok=True)
    log = home / "up.log"
    with log.open("wb") as output:
        background = subprocess.Popen(
            [sys.executable, "-m", "command", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _follow(background, log, home)
    except KeyboardInterrupt:
        background.send_signal(signal.SIGTERM)
        background.wait()
        raise


def _follow(background: subprocess.Popen[bytes], log: Path, home: Path) -> None:
    with log.open() as lines:
        while not _is_ready(background.pid, home):
            if background.poll() is not None:
                _copy(lines)
                raise CommandError(last_line(log).removeprefix(PREFIX))
            _copy(lines)
            time.sleep(POLL_S)
        # The hints follow the state by a moment.
        time.sleep(2 * POLL_S)
        _copy(lines)


def _copy(lines: IO[str]) -> None:
    # The line that says why it failed is left to whoever handles the error.
    for line in lines:
        if not line.startswith(PREFIX):
            print(line, end="", flush=True)


def _is_ready(pid: int, home: Path) -> bool:
    state = read_state(home)
    return state is not None and state.supervisor.pid == pid and state.ready
