"""Ends the services when `up` is gone without having ended them. A process of its own.

Its standard input is a pipe whose other end only `up` holds: `+PID` for each session that
starts, `-PID` for each that has ended, and end-of-file when `up` ends, even by SIGKILL. So
nothing that `up` started outlives it.

python -m command.guardian
"""

import asyncio
import signal
import sys
import time
from collections.abc import Iterable
from typing import Self

from command.processes import ask_to_end, kill_session, lives

PATIENCE_S = 3.0


class Guard:
    """The end of the pipe that `up` holds."""

    def __init__(self, child: asyncio.subprocess.Process, pipe: asyncio.StreamWriter) -> None:
        self._child = child
        self._pipe = pipe

    @classmethod
    async def start(cls) -> Self:
        """Run the guardian, in a session of its own so that signals to `up` do not reach it."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "command.guardian"),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if child.stdin is None:
            raise RuntimeError("a child with a pipe has none")
        return cls(child, child.stdin)

    def watch(self, leader: int) -> None:
        """See to it that this session ends."""
        self._pipe.write(f"+{leader}\n".encode())

    def forget(self, leader: int) -> None:
        """This session has ended."""
        self._pipe.write(f"-{leader}\n".encode())

    async def close(self) -> None:
        """Let the guardian end what is left, and go."""
        self._pipe.close()
        await self._child.wait()


def read_sessions(lines: Iterable[str]) -> set[int]:
    """The leaders of the sessions that are left when `lines` end."""
    leaders: set[int] = set()
    for line in lines:
        sign, leader = line[0], int(line[1:])
        (leaders.add if sign == "+" else leaders.discard)(leader)
    return leaders


def end_sessions(leaders: set[int]) -> None:
    """Ask the leaders to end, give them time, then kill the sessions."""
    for leader in leaders:
        ask_to_end(leader)
    deadline = time.monotonic() + PATIENCE_S
    while any(map(lives, leaders)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for leader in leaders:
        kill_session(leader)


if __name__ == "__main__":
    # Ctrl-C in the terminal is for `up`, which then ends the services itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_sessions(read_sessions(sys.stdin))
