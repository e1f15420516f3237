"""`headway down`: ends the system that runs here."""

import os
import signal

from command.errors import CommandError
from command.processes import kill_session
from command.state import State, read_state, state_home

# `up` promises 10 s.
PATIENCE_S = 12.0


def down() -> None:
    """End the system; say so, also when there is none."""
    state = read_state(state_home())
    if state is None or state.supervisor.is_over():
        print("nothing runs here")
        return
    os.kill(state.supervisor.pid, signal.SIGTERM)
    if not state.supervisor.wait_until_over(PATIENCE_S):
        _kill(state)
        raise CommandError(f"it did not end within {PATIENCE_S:g} s and was killed")
    print(f"stopped {len(state.services)} processes")


def _kill(state: State) -> None:
    for service in state.services:
        kill_session(service.life.pid)
    os.kill(state.supervisor.pid, signal.SIGKILL)
