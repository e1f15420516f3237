"""Starts processes and ends them, with everything they started themselves.

Each is the leader of a session of its own, and vLLM's processes share their worker's. So the
leader can be asked to end, and the whole session can be killed, also when the leader is gone.
"""

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process as Child
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

# gRPC then polls in the thread that waits for it, as before its event engine: three wake-ups a
# message less, up to half of what a message costs. docs/benchmarks/hot-path.md has the figures.
# A release that drops the switch ignores it.
DEFAULTS = {"GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener"}


async def start(module: str, env: Mapping[str, str], log: Path) -> Child:
    """Run a Python module; its output goes to the end of `log`."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module),
            env={**DEFAULTS, **os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def ask_to_end(leader: int) -> None:
    """Ask a session's leader to end what it does and go."""
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGTERM)


def kill_session(leader: int) -> None:
    """End all processes of a session now."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def end_all(children: list[Child], patience_s: float) -> None:
    """Ask all to end, and kill what is left after `patience_s`."""
    if not children:
        return
    ended = [asyncio.create_task(child.wait()) for child in children]
    for child in children:
        if child.returncode is None:
            ask_to_end(child.pid)
    await asyncio.wait(ended, timeout=patience_s)
    for child in children:
        kill_session(child.pid)
    await asyncio.gather(*ended)
