"""One registration: what is called when, what is said, and that a stop never waits for a dead registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from enginehouse.babysitter import registration
from enginehouse.babysitter.registration import Errors, Registration
from enginehouse.core.record import Record, parse_record
from tests.babysitter.house import until


class Failed(Exception):
    """Any failure."""


class Unknown(Failed):
    """404."""


class Conflict(Failed):
    """409."""


class Script:
    """A client that answers as told and writes down what it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.leases: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.hang = False

    async def register(self, record: Record, lease: str) -> str:
        await self._call(f"register {record.status}", lease)
        return lease

    async def heartbeat(self, name: str, lease: str, status: str) -> None:
        await self._call(f"heartbeat {status}", lease)

    async def unregister(self, name: str, lease: str) -> None:
        await self._call("unregister", lease)

    async def _call(self, call: str, lease: str) -> None:
        self.calls.append(call)
        self.leases.append(lease)
        if self.hang:
            await asyncio.sleep(3600)
        if failures := self.failures.get(call.split()[0]):
            raise failures.pop(0)

    async def made(self, call: str, times: int = 1) -> None:
        async def seen() -> bool:
            return self.calls.count(call) >= times

        await until(f"{times} × {call!r} in {self.calls}", seen)


def record(status: str = "running") -> Record:
    return parse_record({"name": "n", "host": "h", "port": 1, "status": status})


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def lines() -> list[str]:
    return []


def registered(script: Script, say: Callable[[str], None], interval: float = 0.05) -> Registration:
    return Registration(script, Errors(Unknown, Conflict, Failed), interval, say)


async def test_register_heartbeats_change_and_unregister_under_one_lease(script: Script, lines: list[str]) -> None:
    made = registered(script, lines.append)
    made.publish(record())
    await script.made("heartbeat running", 2)
    made.publish(record())  # nothing new: no call
    made.publish(record("degraded"))
    await script.made("heartbeat degraded")
    await made.close()
    assert script.calls[0] == "register running"
    assert script.calls.count("register running") == 1
    assert script.calls.count("register degraded") == 1
    assert script.calls[-1] == "unregister"
    assert len(set(script.leases)) == 1
    assert lines == ["registered as n with http://h:1"]


async def test_each_offer_has_a_lease_of_its_own(script: Script) -> None:
    made = registered(script, lambda _: None)
    made.publish(record())
    await script.made("register running")
    made.withdraw()
    await script.made("unregister")
    made.publish(record())
    await script.made("register running", 2)
    await made.close()
    assert len(set(script.leases)) == 2


async def test_a_404_to_a_heartbeat_registers_again(script: Script) -> None:
    script.failures["heartbeat"] = [Unknown("gone")]
    made = registered(script, lambda _: None)
    made.publish(record())
    await script.made("register running", 2)
    await made.close()


async def test_a_registry_that_fails_is_told_of_once_and_tried_again_until_it_takes_it(
    script: Script, lines: list[str]
) -> None:
    """Defect: Registration is not retried."""
    script.failures["register"] = [Failed("refused"), Failed("refused")]
    made = registered(script, lines.append)
    made.publish(record())
    await script.made("heartbeat running")
    await made.close()
    assert lines == ["n is not registered: refused; trying again until it is", "registered as n with http://h:1"]


async def test_a_name_that_another_babysitter_took_is_left_to_it_and_that_is_said(
    script: Script, lines: list[str]
) -> None:
    script.failures["heartbeat"] = [Conflict("not yours")]
    made = registered(script, lines.append)
    made.publish(record())
    await script.made("heartbeat running")
    await asyncio.sleep(0.2)
    made.withdraw()
    made.publish(record())
    await made.close()
    assert script.calls == ["register running", "heartbeat running"]
    assert "stop one of the two, or give one another name" in lines[-1]


async def test_a_stop_does_not_wait_for_a_registry_that_hangs(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "RELEASE_DEADLINE", 0.2)
    made = registered(script, lambda _: None)
    script.hang = True
    made.publish(record())
    async with asyncio.timeout(10):
        await made.close()
    assert script.calls == ["register running"]


async def test_closing_what_was_never_published_does_nothing(script: Script) -> None:
    await registered(script, lambda _: None).close()
    assert script.calls == []
