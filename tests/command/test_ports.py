import socket
from collections.abc import Iterator

import pytest

from command.errors import CommandError
from command.options import Options
from command.plan import Ports, wanted_ports
from command.ports import Reserved
from tests.system import free_port


@pytest.fixture
def ports() -> Iterator[Reserved]:
    with Reserved() as reserved:
        yield reserved


def test_a_free_port_is_kept(ports: Reserved) -> None:
    port, metrics = free_port(), free_port()
    assert ports.choose([("worker", Ports(port, metrics))]) == [Ports(port, metrics)]


def test_a_taken_port_gives_way(ports: Reserved) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [chosen] = ports.choose([("worker", Ports(port, free_port()))])
        assert chosen.serve != port


def test_a_port_that_must_be_free_and_is_not_is_named(ports: Reserved) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} is in use"):
            ports.require(port)


def test_what_one_system_chose_no_other_gets_until_it_ends() -> None:
    port = free_port()
    with Reserved() as first:
        first.require(port)
        with Reserved() as second, pytest.raises(CommandError, match=f"port {port} is in use"):
            second.require(port)
    with Reserved() as third:
        third.require(port)


def test_edges_share_the_port_that_was_asked_for(ports: Reserved) -> None:
    port = free_port()
    chosen = ports.choose(wanted_ports(Options(edges=2, port=port)))
    assert [each.serve for each in chosen[-2:]] == [port, port]


def test_no_port_is_chosen_twice(ports: Reserved) -> None:
    port = free_port()
    chosen = ports.choose([("worker", Ports(port, port)), ("worker", Ports(port, port))])
    assert len({port for pair in chosen for port in (pair.serve, pair.metrics)}) == 4
