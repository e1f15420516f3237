"""A whole system, run by `headway up` as its users run it, on free ports and a state of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command.state import read_state

START_S = 180
END_S = 12  # `up` promises 10 s


@dataclass(frozen=True, slots=True)
class System:
    """A running system."""

    url: str
    home: Path
    up: "subprocess.Popen[bytes]"

    def headway(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another `headway` command beside it."""
        return headway(self.home, *arguments)

    def ps(self, service: str = "") -> list[dict[str, Any]]:
        """The rows of `headway ps --json`, of one service or of all."""
        rows: list[dict[str, Any]] = json.loads(self.headway("ps", "--json").stdout)
        return [row for row in rows if service in ("", row["service"])]

    def address(self, service: str, index: int = 0) -> str:
        """Where a process listens, host:port."""
        address: str = self.ps(service)[index]["address"]
        return address

    def output(self) -> str:
        """What `up` has printed so far."""
        return (self.home / "up.txt").read_text()


@contextmanager
def system(home: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[System]:
    """Run `headway up ARGUMENTS` until the block is left; yields when everything is ready."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.txt").open("wb") as output:
        up = subprocess.Popen(
            [*_COMMAND, "up", "--port", str(port), *arguments],
            env={**_environment(home), **(env or {})},
            stdout=output,
            stderr=output,
        )
    running = System(f"http://127.0.0.1:{port}", home, up)
    try:
        _wait_until_ready(running)
        yield running
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(END_S)
        finally:
            up.kill()


def headway(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a `headway` command with a state of its own, to its end."""
    return subprocess.run(
        [*_COMMAND, *arguments],
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_COMMAND: Sequence[str] = (sys.executable, "-m", "command")


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HEADWAY_STATE": str(home), "PYTHONUNBUFFERED": "1"}


def _wait_until_ready(running: System) -> None:
    deadline = time.monotonic() + START_S
    while not _is_ready(running):
        if running.up.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"`headway up` did not come up:\n{running.output()}")
        time.sleep(0.1)


def _is_ready(running: System) -> bool:
    state = read_state(running.home)
    # A state of an earlier life may lie there.
    return state is not None and state.supervisor.pid == running.up.pid and state.ready
