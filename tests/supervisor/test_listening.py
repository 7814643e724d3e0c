"""The listening sockets: shared by address, refused where another program listens, on IPv4 and IPv6."""

from __future__ import annotations

import socket
import sys

import pytest

from enginehouse.core.config.router import RouterConfig
from enginehouse.supervisor.router import listen, supervise


def close_all(sockets: list[socket.socket]) -> None:
    for sock in set(sockets):
        sock.close()


def test_each_worker_gets_a_socket_on_the_same_address_chosen_by_the_system() -> None:
    sockets = listen("127.0.0.1", 0, 3)
    assert len(sockets) == 3
    assert len({sock.getsockname() for sock in sockets}) == 1
    if sys.platform == "linux":
        assert len({sock.fileno() for sock in sockets}) == 3
    close_all(sockets)


def test_ipv6_is_listened_on() -> None:
    sockets = listen("::1", 0, 1)
    assert sockets[0].family is socket.AF_INET6
    close_all(sockets)


def test_a_port_that_another_program_listens_on_is_refused_and_not_shared(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port, 2)
        assert supervise(RouterConfig(host="127.0.0.1", port=port)) == 1
    said = capsys.readouterr().err
    assert str(port) in said
    assert "--router-port" in said
