"""Finds ports to listen on: the wanted ones, or others when those are taken.

A service binds its port seconds after it was chosen here. Until then other systems of the same
user are kept off it by a lock file a port, which the kernel lets go of when `up` ends.
"""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from command.errors import CommandError
from command.plan import HOST, Ports

# Below the range from which the kernel takes ports for outgoing connections: nothing but another
# program that listens can take them.
_OTHERS = range(20_000, 30_000)


class Reserved:
    """The ports reserved until the block is left."""

    def __init__(self) -> None:
        self._locks = ExitStack()
        self._folder = Path(tempfile.gettempdir()) / f"headway-ports-{os.getuid()}"

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._locks.close()

    def require(self, port: int) -> None:
        """Reserve this very port. Raises CommandError when it is taken."""
        if not self._take(port):
            raise CommandError(
                f"port {port} is in use; stop what listens there, or choose another with --port"
            )

    def choose(self, wanted: Iterable[tuple[str, Ports]]) -> list[Ports]:
        """Reserve the ports of each process. An edge's HTTP port stays: edges share it."""
        return [
            Ports(
                ports.serve if service == "edge" else self._choose(ports.serve),
                self._choose(ports.metrics),
            )
            for service, ports in wanted
        ]

    def _choose(self, wanted: int) -> int:
        for port in _candidates(wanted):
            if self._take(port):
                return port
        raise CommandError("no port is free on the loopback interface")

    def _take(self, port: int) -> bool:
        lock = (self._folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._locks.enter_context(lock)
        return _is_free(port)


def _candidates(wanted: int) -> Iterator[int]:
    yield wanted
    yield from random.sample(_OTHERS, len(_OTHERS))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the services do: connections that linger in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
