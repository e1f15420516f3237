"""Finds ports to listen on: the wanted ones, or others when those are taken."""

import random
import socket
from collections.abc import Iterable, Iterator

from command.errors import CommandError
from command.plan import HOST, Ports

# Below the range from which the kernel takes ports for outgoing connections: a port chosen here
# is still free seconds later, when the service binds it.
_OTHERS = range(20_000, 30_000)


def require_free(port: int) -> None:
    """Raise CommandError when something listens on the port already."""
    if not _is_free(port):
        raise CommandError(
            f"port {port} is in use; stop what listens there, or choose another with --port"
        )


def choose(wanted: Iterable[tuple[str, Ports]]) -> list[Ports]:
    """The ports for each process. An edge gets its HTTP port as it is: edges share it."""
    taken: set[int] = set()
    return [
        Ports(
            ports.serve if service == "edge" else _choose(ports.serve, taken),
            _choose(ports.metrics, taken),
        )
        for service, ports in wanted
    ]


def _choose(wanted: int, taken: set[int]) -> int:
    for port in _candidates(wanted):
        if port not in taken and _is_free(port):
            taken.add(port)
            return port
    raise CommandError("no port is free on the loopback interface")


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
