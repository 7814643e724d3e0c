"""Probes and what `is_healthy` makes of them, with real services to probe."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from enginehouse.core.record import parse_record
from enginehouse.registry import probes
from enginehouse.registry.probes import target
from tests.ports import Ports
from tests.registry.running import answers, running, service, stub, until

WAIT = 20.0
ENGINE = {"type": "openai-api"}


async def shown(session: aiohttp.ClientSession, name: str = "e") -> dict[str, Any]:
    async with session.get(f"/services/{name}") as answer:
        return dict(await answer.json())


async def post(session: aiohttp.ClientSession, record: dict[str, Any]) -> None:
    async with session.post("/services", json=record) as answer:
        assert answer.status == 201, await answer.text()


async def probed(session: aiohttp.ClientSession, name: str = "e") -> str:
    async with session.get(f"/services/{name}/health") as answer:
        return str((await answer.json())["health_status"])


async def becomes(session: aiohttp.ClientSession, health_status: str, name: str = "e") -> dict[str, Any]:
    return await until(lambda: shown(session, name), lambda service: service["health_status"] == health_status)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """On a registry that probes only when it is asked to, once it has started."""
    async with running(health_interval=3600) as url, aiohttp.ClientSession(url) as session:
        yield session


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "http://h:8000/health"),
        ({"url": "https://h:8443/engine/"}, "https://h:8443/engine/health"),
        ({"metadata": ENGINE}, "http://h:8001/health"),
        ({"metadata": ENGINE, "host": "::1"}, "http://[::1]:8001/health"),
        ({"metadata": ENGINE, "port": 65535}, "http://h:65535/health"),
        ({"metadata": ENGINE | {"health_url": "https://h:1/z"}}, "https://h:1/z"),
        ({"metadata": {"health_url": "http://h/z"}}, "http://h/z"),
    ],
)
def test_what_is_probed(fields: dict[str, Any], url: str) -> None:
    assert target(parse_record({"name": "e", "host": "h", "port": 8000} | fields)) == url


async def test_an_engines_babysitter_is_asked_on_the_next_port(session: aiohttp.ClientSession, ports: Ports) -> None:
    port = ports.pair()
    async with stub(answers(500), port), stub(answers(200), port + 1):
        await post(session, service("e", port, metadata=ENGINE))
        assert await probed(session) == "healthy"
        await post(session, service("plain", port))
        assert await probed(session, "plain") == "unhealthy"


async def test_is_healthy_follows_the_last_probe(session: aiohttp.ClientSession) -> None:
    """Defect: `is_healthy` ignores the probe."""
    statuses = iter([200, 503, 204, 302, 404])

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=next(statuses))

    async with stub(handler) as port:
        await post(session, service("e", port))
        for healthy in (True, False, True, False, False):
            await probed(session)
            assert (await shown(session))["is_healthy"] is healthy
    await probed(session)
    assert (await shown(session))["health_status"] == "unhealthy"
    async with session.get("/services?healthy=true") as answer:
        assert (await answer.json())["services"] == []


async def test_a_verdict_is_about_one_incarnation_at_one_place(session: aiohttp.ClientSession) -> None:
    async with stub(answers(500)) as port:
        await post(session, service("e", port))
        await probed(session)
        await post(session, service("e", port, weight=3))
        assert (await shown(session))["health_status"] == "unknown", "somebody new"
        await probed(session)
        async with session.put("/services/e", json={"weight": 2}) as answer:
            assert (await answer.json())["service"]["health_status"] == "unhealthy", "still the same"
        async with session.put("/services/e", json={"port": 1}) as answer:
            assert (await answer.json())["service"]["health_status"] == "unknown", "somewhere else"


async def test_redirects_are_not_followed(session: aiohttp.ClientSession) -> None:
    async with stub(answers(200)) as elsewhere:

        async def handler(_: web.BaseRequest) -> web.StreamResponse:
            raise web.HTTPFound(f"http://127.0.0.1:{elsewhere}/health")

        async with stub(handler) as port:
            await post(session, service("e", port))
            assert await probed(session) == "unhealthy"


async def test_probes_run_in_parallel_and_over_kept_connections() -> None:
    """Defect: Probes run one after another, a new client each."""
    count, waiting, all_in, third_round = 20, 0, asyncio.Event(), asyncio.Event()
    peers: set[tuple[str, int]] = set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal waiting
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        waiting += 1
        if waiting >= count:
            all_in.set()
        if waiting >= 3 * count:
            third_round.set()
        async with asyncio.timeout(WAIT):
            await all_in.wait()  # answered only when all of them are under way at once
        return web.Response()

    async with (
        stub(handler) as port,
        running(health_interval=0.2, health_timeout=WAIT) as url,
        aiohttp.ClientSession(url) as session,
    ):
        for number in range(count):
            await post(session, service(f"e{number}", port))
        for number in range(count):
            await becomes(session, "healthy", f"e{number}")
        async with asyncio.timeout(WAIT):
            await third_round.wait()
        assert len(peers) <= 2 * count, "later rounds use the connections of the first"


async def test_a_probe_that_hangs_fails_after_its_time_and_delays_no_other() -> None:
    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(WAIT)
        return web.Response()

    async with (
        stub(hangs) as hanging,
        stub(answers(200)) as port,
        running(health_interval=0.1, health_timeout=0.5) as url,
        aiohttp.ClientSession(url) as session,
    ):
        await post(session, service("hangs", hanging))
        await post(session, service("e", port))
        await becomes(session, "healthy")
        await becomes(session, "unhealthy", "hangs")


async def test_after_a_restart_services_are_unhealthy_until_a_probe_or_a_heartbeat_confirms_them(
    tmp_path: Path,
) -> None:
    journal = str(tmp_path / "journal.db")
    async with stub(answers(200)) as port:
        async with running(journal=journal) as url, aiohttp.ClientSession(url) as session:
            await post(session, service("e", port))
            await post(session, service("gone", 1))
        async with running(journal=journal) as url, aiohttp.ClientSession(url) as session:
            assert (await becomes(session, "healthy"))["is_healthy"] is True
            assert (await becomes(session, "unhealthy", "gone"))["is_healthy"] is False
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts by the kernel, never answers
        async with running(journal=journal) as url, aiohttp.ClientSession(url) as session:
            await post(session, service("e", silent.getsockname()[1]))
        async with running(journal=journal) as url, aiohttp.ClientSession(url) as session:
            before = await shown(session)
            assert (before["health_status"], before["is_healthy"]) == ("unknown", False)
            async with session.post("/services/e/heartbeat") as answer:
                assert answer.status == 200
            assert (await shown(session))["is_healthy"] is True


async def test_a_name_that_resolves_to_an_address_that_is_not_allowed_is_not_called(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return web.Response()

    async with stub(handler) as port:
        with monkeypatch.context() as patch:
            patch.setattr(probes, "address_allowed", lambda *_: False)
            await post(session, service("e", port, host="localhost"))
            assert await probed(session) == "unhealthy"
            assert calls == 0
        assert await probed(session) == "healthy", "it was the address and nothing else"
        assert calls == 1


async def test_a_service_is_stale_without_heartbeats_although_its_probe_passes() -> None:
    async with (
        stub(answers(200)) as port,
        running(stale_after=0.3, health_interval=3600) as url,
        aiohttp.ClientSession(url) as session,
    ):
        await post(session, service("e", port))
        assert await probed(session) == "healthy"
        await until(lambda: shown(session), lambda service: not service["is_healthy"])
        async with session.post("/services/e/heartbeat") as answer:
            assert answer.status == 200
        assert (await shown(session))["is_healthy"] is True
