"""What the keeper asks the machine itself: whether a port is free. The rest of it is tried in `test_main`."""

from __future__ import annotations

import asyncio
import socket

import pytest

from enginehouse.babysitter import keeper
from enginehouse.babysitter.keeper import answers, port_is_taken
from tests.ports import Ports


def listening(port: int, host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen()
    return made


async def test_a_port_is_taken_when_somebody_accepts_on_it(ports: Ports) -> None:
    port = ports.one()
    assert not await answers(port)
    with listening(port):
        assert await answers(port)
    with listening(0, "::1") as six:
        assert await answers(six.getsockname()[1])


async def test_an_engine_whose_guard_is_just_killing_it_is_waited_for(ports: Ports) -> None:
    port = ports.one()
    old = listening(port)
    asyncio.get_running_loop().call_later(0.3, old.close)
    assert not await port_is_taken(port)


async def test_a_program_that_stays_is_not_waited_for_for_ever(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PORT_PATIENCE", 0.2)
    port = ports.one()
    with listening(port):
        assert await port_is_taken(port)


async def test_who_is_stopped_while_it_waits_for_a_port_stops_waiting(ports: Ports) -> None:
    port = ports.one()
    with listening(port):
        async with asyncio.timeout(5):
            assert await port_is_taken(port, lambda: False)
