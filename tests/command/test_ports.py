import socket

import pytest

from command.errors import CommandError
from command.options import Options
from command.plan import Ports, wanted_ports
from command.ports import choose, require_free
from tests.system import free_port


def test_a_free_port_is_kept() -> None:
    port, metrics = free_port(), free_port()
    require_free(port)
    assert choose([("worker", Ports(port, metrics))]) == [Ports(port, metrics)]


def test_a_taken_port_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [chosen] = choose([("worker", Ports(port, free_port()))])
        assert chosen.serve != port
        with pytest.raises(CommandError, match=f"port {port} is in use"):
            require_free(port)


def test_edges_share_the_port_that_was_asked_for() -> None:
    port = free_port()
    chosen = choose(wanted_ports(Options(edges=2, port=port)))
    assert [ports.serve for ports in chosen[-2:]] == [port, port]


def test_no_port_is_chosen_twice() -> None:
    port = free_port()
    chosen = choose([("worker", Ports(port, port)), ("worker", Ports(port, port))])
    ports = [port for pair in chosen for port in (pair.serve, pair.metrics)]
    assert len(set(ports)) == 4
