"""Names to addresses: checked, shared, kept while the name service is away."""

import asyncio
import socket
from typing import Any

import pytest

from enginehouse.control.resolver import Resolver
from tests.control.rig import until


class Names:
    """A name service in place of the loop's."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def getaddrinfo(self, host: str, port: object, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        await self.open.wait()
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(0, 0, 0, "", (address, 0)) for address in self.hosts[host]]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    service = Names(engine=["10.0.0.1", "10.0.0.2", "10.0.0.1"])
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", service.getaddrinfo)
    return service


async def test_a_real_name_resolves() -> None:
    assert set((await Resolver().find("localhost")).addresses) & {"127.0.0.1", "::1"}


async def test_an_address_needs_no_name_service(names: Names) -> None:
    known = Resolver().known("fd00::1")
    assert known is not None
    assert known.addresses == ("fd00::1",)
    assert names.asked == []


async def test_a_name_is_looked_up_once_and_its_addresses_are_each_used_once(names: Names) -> None:
    resolver = Resolver()
    assert resolver.known("engine") is None
    found = await asyncio.gather(*[resolver.find("engine") for _ in range(10)])
    assert {each.addresses for each in found} == {("10.0.0.1", "10.0.0.2")}
    assert names.asked == ["engine"]


async def test_names_are_resolved_again_and_a_service_that_moved_is_found(names: Names) -> None:
    """Trap: names resolved again while running."""
    resolver = Resolver()
    await resolver.find("engine")
    names.hosts["engine"] = ["10.0.0.9"]
    await resolver.refresh(["engine"])
    assert (await resolver.find("engine")).addresses == ("10.0.0.9",)


async def test_a_name_service_that_is_away_takes_nobodys_address_away(names: Names) -> None:
    resolver = Resolver()
    await resolver.find("engine")
    del names.hosts["engine"]
    await resolver.refresh(["engine"])
    assert (await resolver.find("engine")).addresses == ("10.0.0.1", "10.0.0.2")


async def test_a_name_pointed_at_a_refused_address_afterwards_loses_all_its_addresses(names: Names) -> None:
    resolver = Resolver()
    await resolver.find("engine")
    names.hosts["engine"] = ["169.254.169.254"]
    await resolver.refresh(["engine"])
    found = await resolver.find("engine")
    assert found.addresses == ()
    assert "may not be used" in found.reason


async def test_only_addresses_in_the_allowed_networks_are_used(names: Names) -> None:
    names.hosts["engine"] = ["192.168.1.1", "10.0.0.1"]
    assert (await Resolver(["10.0.0.0/8"]).find("engine")).addresses == ("10.0.0.1",)


async def test_an_unknown_name_has_a_reason_and_is_found_when_it_appears(names: Names) -> None:
    resolver = Resolver()
    assert (await resolver.find("new")).reason == "new cannot be resolved"
    names.hosts["new"] = ["10.0.0.3"]
    assert (await resolver.find("new")).addresses == ("10.0.0.3",)


async def test_who_gives_up_waiting_for_a_slow_look_up_does_not_end_it_for_others(names: Names) -> None:
    resolver = Resolver()
    names.open.clear()
    impatient = asyncio.create_task(resolver.find("engine"))
    patient = asyncio.create_task(resolver.find("engine"))
    await until(lambda: names.asked, "the look-up")
    impatient.cancel()
    await asyncio.sleep(0)
    names.open.set()
    assert (await patient).addresses
    assert names.asked == ["engine"]


async def test_hosts_that_nobody_needs_any_more_are_forgotten(names: Names) -> None:
    resolver = Resolver()
    await resolver.find("engine")
    await resolver.refresh([])
    assert resolver.known("engine") is None
