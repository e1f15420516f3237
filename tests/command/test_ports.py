import socket
from collections.abc import Iterator

import pytest

from command.errors import CommandError
from command.options import Options
from command.plan import Ports, wanted_ports
from command.ports import Reservations
from tests.system import free_port


@pytest.fixture
def reservations() -> Iterator[Reservations]:
    with Reservations() as held:
        yield held


def test_a_free_port_is_kept(reservations: Reservations) -> None:
    port, serve, metrics = free_port(), free_port(), free_port()
    reservations.require(port)
    assert reservations.choose([("worker", Ports(serve, metrics))]) == [Ports(serve, metrics)]


def test_a_taken_port_gives_way(reservations: Reservations) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [chosen] = reservations.choose([("worker", Ports(port, free_port()))])
        assert chosen.serve != port


def test_a_taken_port_that_was_asked_for_is_an_error(reservations: Reservations) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} is in use"):
            reservations.require(port)


def test_a_port_of_another_system_gives_way_before_anything_listens_on_it(
    reservations: Reservations,
) -> None:
    wanted = Ports(free_port(), free_port())
    [first] = reservations.choose([("worker", wanted)])
    with Reservations() as others:
        [second] = others.choose([("worker", wanted)])
    assert {first.serve, first.metrics}.isdisjoint({second.serve, second.metrics})


def test_what_a_system_held_is_free_when_it_ends(reservations: Reservations) -> None:
    port = free_port()
    with Reservations() as others:
        others.require(port)
    reservations.require(port)


def test_edges_share_the_port_that_was_asked_for(reservations: Reservations) -> None:
    port = free_port()
    chosen = reservations.choose(wanted_ports(Options(edges=2, port=port)))
    assert [ports.serve for ports in chosen[-2:]] == [port, port]


def test_no_port_is_chosen_twice(reservations: Reservations) -> None:
    port = free_port()
    chosen = reservations.choose([("worker", Ports(port, port)), ("worker", Ports(port, port))])
    ports = [port for pair in chosen for port in (pair.serve, pair.metrics)]
    assert len(set(ports)) == 4
