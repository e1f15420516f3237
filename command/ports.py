"""Finds ports to listen on: the wanted ones, or others when those are taken."""

import random
import socket
from collections.abc import Iterable, Iterator
from typing import Self

from command.errors import CommandError
from command.plan import HOST, Ports

# Below the range from which the kernel takes ports for outgoing connections: a port chosen here
# is still free seconds later, when the service binds it.
_OTHERS = range(20_000, 30_000)


class Reservations:
    """Ports that belong to one system while it runs, also before its services bind them.

    A worker loads for half a minute before it listens, and a service that died comes back to
    its port: another system that starts meanwhile must not take it. Each port is claimed by an
    abstract socket of its name, which the kernel forgets with the process, however that ends.
    """

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for claim in self._claims:
            claim.close()

    def require(self, port: int) -> None:
        """Reserve this very port. Raises CommandError when it is in use."""
        if not self._reserve(port):
            raise CommandError(
                f"port {port} is in use; stop what listens there, or choose another with --port"
            )

    def choose(self, wanted: Iterable[tuple[str, Ports]]) -> list[Ports]:
        """The ports for each process. An edge gets its HTTP port as it is: edges share it."""
        return [
            Ports(
                ports.serve if service == "edge" else self._choose(ports.serve),
                self._choose(ports.metrics),
            )
            for service, ports in wanted
        ]

    def _choose(self, wanted: int) -> int:
        for port in _candidates(wanted):
            if self._reserve(port):
                return port
        raise CommandError("no port is free on the loopback interface")

    def _reserve(self, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0headway-port-{port}")
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        # A claim on a port that another program holds stays: it only keeps others from trying.
        return _is_free(port)


def _candidates(wanted: int) -> Iterator[int]:
    yield wanted
    # By chance, so that two systems that start at once do not race for the same ports.
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
