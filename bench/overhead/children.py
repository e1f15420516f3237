"""Processes that the benchmark starts, and that end with it however it ends."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from services.worker import tether

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
START_S = 180.0
END_S = 12.0
"""`headway up` promises to end in 10 s."""
_NONE: Mapping[str, str] = MappingProxyType({})


class NotMeasured(Exception):
    """Why something has no figures: it did not start, ended early or failed what it was asked."""


@contextmanager
def started(
    command: Sequence[str], log: Path, env: Mapping[str, str] = _NONE, end_s: float = END_S
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program from the root of the checkout until the block is left.

    It is then asked to end, and killed when it has not after `end_s`.
    """
    # The kernel kills it when we are gone. What it starts itself is its own affair, but for
    # `headway up`, whose guardian then ends the services.
    tethered = [sys.executable, "-IS", tether.__file__, str(os.getpid()), *command]
    with log.open("ab") as output:
        child = subprocess.Popen(
            tethered,
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        _end(child, end_s)


def _end(child: "subprocess.Popen[bytes]", patience_s: float) -> None:
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def free_port() -> int:
    """A port on which nothing listens, below those that the kernel gives to callers."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def until_listens(port: int, child: "subprocess.Popen[bytes]") -> None:
    """Wait until connections are taken. Raises NotMeasured when none ever will be."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and child.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise NotMeasured(f"nothing listens on {port}")


def until_answers(url: str, child: "subprocess.Popen[bytes]", body: bytes | None = None) -> None:
    """Wait until a request gets a 200. Raises NotMeasured when it never will."""
    headers = {"content-type": "application/json"}
    deadline_s = time.monotonic() + START_S
    said = ""
    while time.monotonic() < deadline_s:
        if child.poll() is not None:
            raise NotMeasured(f"it ended with code {child.returncode}")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30):
                return
        except urllib.error.HTTPError as error:
            said = f"{error.code} {error.read()[:200]!r}"
        except OSError as error:
            said = str(error)
        time.sleep(0.1)
    raise NotMeasured(f"{url} does not answer after {START_S:g} s: {said}")
