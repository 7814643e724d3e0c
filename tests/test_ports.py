"""Ports for tests: nobody else is given one that is held, and a server can still listen on it."""

import socket

import pytest

from tests.ports import Ports


def test_a_server_can_listen_on_a_held_port_and_until_then_connections_are_refused(ports: Ports) -> None:
    port = ports.one()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port), timeout=5):
        server.accept()[0].close()


def test_a_server_that_shares_its_port_between_processes_can_listen_too(ports: Ports) -> None:
    port = ports.one()
    with socket.create_server(("127.0.0.1", port), reuse_port=True):
        pass


def test_no_port_is_given_twice(ports: Ports) -> None:
    given = [ports.one() for _ in range(50)]
    assert len(set(given)) == 50


def test_a_pair_leaves_room_for_the_babysitter_at_the_next_port(ports: Ports) -> None:
    engine = ports.pair()
    with socket.create_server(("127.0.0.1", engine)), socket.create_server(("127.0.0.1", engine + 1)):
        pass
