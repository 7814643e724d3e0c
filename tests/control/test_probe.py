"""One look at one engine: real HTTP against engines of every sort."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from enginehouse.control.access import Accesses
from enginehouse.control.engine_client import MAX_BODY, EngineClient
from enginehouse.control.probe import Look, Probe
from enginehouse.control.resolver import Resolver
from enginehouse.control.roster import Entry
from enginehouse.core.record import parse_record
from enginehouse.machines.health import Health, ProbeFailed, ProbePassed
from tests.control.rig import engine, models, scripted
from tests.ports import Ports

Access = Callable[[str], tuple[str, str]]


@asynccontextmanager
async def prober(
    access: Access = lambda _: ("", ""), timeout: float = 5.0, allow: tuple[str, ...] = ()
) -> AsyncIterator[Probe]:
    resolver, accesses = Resolver(allow), Accesses(access)
    client = EngineClient(resolver, accesses, timeout)
    yield Probe(resolver, accesses, client)
    await client.close()


def entry(port: int, host: str = "127.0.0.1", **fields: Any) -> Entry:
    record = parse_record({"name": "a", "host": host, "port": port} | fields)
    return Entry(record, "static", 0, 1, Health(3))


async def look(at: Entry, access: Access = lambda _: ("", "")) -> Look:
    async with prober(access) as probe:
        return await probe.look(at)


def ids(seen: Look) -> list[str]:
    assert seen.models is not None
    return [model["id"] for model in seen.models]


def reason(seen: Look) -> str:
    assert isinstance(seen.event, ProbeFailed), seen
    return seen.event.reason


async def test_a_static_service_without_a_babysitter_turns_unhealthy__a_plain_engine_is_well_by_its_own_word() -> None:
    """Defect: A static service without a babysitter at port+1 turns unhealthy, so a plain vLLM or llama.cpp cannot be
    used."""
    async with engine(models=("m1", "m2")) as plain:
        seen = await look(entry(plain.port))
    assert seen.event == ProbePassed()
    assert ids(seen) == ["m1", "m2"]


@pytest.mark.parametrize("status", [404, 405, 401, 403, 400, 501])
async def test_an_engine_whose_health_path_says_nothing_is_judged_by_its_model_list(status: int) -> None:
    answers: dict[str, Any] = {"health": (status, {}), "v1/models": models("m")}
    async with scripted(**answers) as server:
        seen = await look(entry(server.port))
    assert seen.event == ProbePassed()
    assert ids(seen) == ["m"]


async def test_an_engine_that_is_loading_is_not_well() -> None:
    async with engine(ready_after=60.0) as loading:
        assert reason(await look(entry(loading.port))) == "/health answered 503 Service Unavailable"


async def test_a_probe_is_never_a_completion() -> None:
    async with scripted(**{"health": (200, {}), "v1/models": models("m")}) as server:
        await look(entry(server.port))
        assert server.asked == ["GET /health", "GET /v1/models"]


async def test_models_a_record_lists_are_not_asked_for() -> None:
    async with scripted(health=(200, {})) as server:
        seen = await look(entry(server.port, metadata={"models": ["m"]}))
        assert server.asked == ["GET /health"]
    assert seen == Look(ProbePassed())


async def test_a_service_may_state_its_own_health_url_which_then_decides_alone() -> None:
    async with scripted(**{"fit": (200, {}), "health": (500, {}), "v1/models": models("m")}) as server:
        stated = {"health_url": f"http://127.0.0.1:{server.port}/fit"}
        assert (await look(entry(server.port, metadata=stated))).event == ProbePassed()
        server.answers["/fit"] = (503, {})
        server.answers["/health"] = (200, {})
        assert "503" in reason(await look(entry(server.port, metadata=stated)))


async def test_port_plus_1_and_http_are_hard_wired__tls_a_path_prefix_and_another_port_work(tmp_path: Path) -> None:
    """Defect: `port+1` and `http://` are hard-wired (no TLS, no path prefix, no NAT)."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca_file)
    answers: dict[str, Any] = {"engines/7/health": (200, {}), "engines/7/v1/models": models("m")}
    async with scripted(ssl=context, **answers) as server:
        there = entry(1, url=f"https://127.0.0.1:{server.port}/engines/7/")
        seen = await look(there, lambda _: ("", ca_file))
        assert seen.event == ProbePassed()
        assert ids(seen) == ["m"]
        assert "ca_file" in reason(await look(there)), (
            "an unknown authority is refused, and the reason names the setting"
        )
        assert "is no PEM file" in reason(await look(there, lambda _: ("", __file__)))


async def test_ipv6_works(ports: Ports) -> None:
    async with engine(host="::1", models=("m",)) as server:
        assert ids(await look(entry(server.port, host="::1"))) == ["m"]


async def test_the_key_of_an_engine_is_sent_and_without_it_the_owner_is_told_which_setting_is_missing() -> None:
    async with engine(api_key="sesame", models=("m",)) as server:
        assert ids(await look(entry(server.port), lambda _: ("sesame", ""))) == ["m"]
        without = await look(entry(server.port))
    assert without.event == ProbePassed(), "it lives, and clients may bring their own keys"
    assert without.models is None
    assert "[[router.engines]]" in without.note


async def test_an_engine_that_refuses_the_configured_key_is_not_well_and_the_reason_does_not_show_the_key() -> None:
    async with scripted(**{"health": (401, {}), "v1/models": (401, {})}) as server:
        refused = reason(await look(entry(server.port), lambda _: ("sesame", "")))
        assert server.requests[0].headers["Authorization"] == "Bearer sesame"
    assert "key" in refused
    assert "sesame" not in refused


async def test_a_key_does_not_show_where_objects_are_printed() -> None:
    assert "sesame" not in repr(Accesses(lambda _: ("sesame", "")).of("a"))


async def test_nobody_listening_is_told_from_other_failures(ports: Ports) -> None:
    assert (await look(entry(ports.one()))).event == ProbeFailed("connection refused", refused=True)


async def test_a_name_with_several_addresses_is_refused_when_nobody_listens_at_any_of_them(ports: Ports) -> None:
    event = (await look(entry(ports.one(), host="localhost"))).event
    assert isinstance(event, ProbeFailed)
    assert event.refused


async def test_an_engine_that_does_not_answer_in_time_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with prober(timeout=0.2) as probe:
            seen = await probe.look(entry(silent.getsockname()[1]))
    assert seen.event == ProbeFailed("no answer within 0.2 s", refused=False)


async def test_a_redirect_is_not_followed() -> None:
    async with scripted(**{"v1/models": models("m")}) as elsewhere:
        async with scripted(health=(302, f"http://127.0.0.1:{elsewhere.port}/v1/models")) as server:
            assert "302" in reason(await look(entry(server.port)))
        assert elsewhere.asked == []


async def test_an_address_that_may_not_be_used_is_never_connected_to() -> None:
    async with scripted(health=(200, {})) as server:
        async with prober(allow=("10.0.0.0/8",)) as probe:
            seen = await probe.look(entry(server.port))
        assert "may not be used" in reason(seen)
        assert server.requests == []


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b'{"data": 7}', b'{"data": null}', b"[" * 100_000, b'"\xff"', b'{"other": []}'],
    ids=lambda body: repr(body[:20]),
)
async def test_what_is_no_model_list_makes_nobody_ill_and_is_told_to_its_owner(body: bytes) -> None:
    async with scripted(**{"health": (200, {}), "v1/models": (200, body)}) as server:
        seen = await look(entry(server.port))
    assert seen == Look(ProbePassed(), None, "/v1/models is no model list")


async def test_of_a_model_list_only_objects_with_a_usable_id_are_taken_each_id_once() -> None:
    odd = [{"id": "a/b:c"}, {"id": 7}, "x", None, {}, {"id": ""}, {"id": "x\ny"}, {"id": "l" * 513}, {"id": "a/b:c"}]
    async with scripted(**{"health": (200, {}), "v1/models": (200, {"data": odd})}) as server:
        assert ids(await look(entry(server.port))) == ["a/b:c"]


async def test_of_an_endless_model_list_only_a_bounded_part_is_read() -> None:
    huge = b'{"data": [' + b" " * (2 * MAX_BODY) + b"]}"
    async with scripted(**{"health": (200, {}), "v1/models": (200, huge)}) as server:
        assert (await look(entry(server.port))).models is None


async def test_an_engine_without_a_model_list_is_well_and_its_last_known_models_are_left_alone() -> None:
    async with scripted(health=(200, {})) as server:
        seen = await look(entry(server.port))
    assert seen == Look(ProbePassed(), None, "/v1/models answered 404 Not Found")


async def test_an_engine_with_neither_path_is_not_well_and_its_owner_is_told_what_to_state() -> None:
    async with scripted() as server:
        assert "metadata.health_url" in reason(await look(entry(server.port)))
