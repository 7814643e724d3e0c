"""Actions through the dashboard: who may, what is done, and everything that is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from enginehouse.app import check_router, read_admin_token
from enginehouse.control.guard import Guard
from enginehouse.core.config.base import ConfigError
from enginehouse.core.config.router import RouterConfig
from tests.control.rig import House, engine, house, static, write_static
from tests.registry.running import running as running_registry
from tests.registry.running import service

TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
DRAIN = "http://router/dashboard/actions/drain"


async def drain(control: House, name: str = "a", headers: dict[str, str] = BEARER, **more: Any) -> tuple[int, Any]:
    """Order it; status and answer."""
    async with control.session.post(DRAIN, json={"service": name} | more, headers=headers) as response:
        answer = await response.json()
        return response.status, answer.get("error", answer)


@asynccontextmanager
async def registered(directory: Path, registry_token: str = "", **settings: Any) -> AsyncIterator[House]:
    """Control that knows a service `a` from a registry; `registry_token`: the registry's, which control has not."""
    async with (
        engine() as one,
        running_registry(registry_token) as registry,
        house(directory, registry_url=registry, **settings) as control,
    ):
        record = service("a", one.port, metadata={"type": "openai-api"})
        headers = {"authorization": f"Bearer {registry_token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            assert (await session.post(f"{registry}/services", json=record)).status == 201
        await control.until_healthy("a")
        yield control


async def test_with_the_token_a_service_is_drained_and_taken_back(short_dir: Path) -> None:
    async with registered(short_dir, admin_token=TOKEN) as control:
        assert await drain(control) == (200, {"service": "a", "status": "draining"})
        await control.until_healthy()
        assert (await control.service("a") or {})["status"] == "draining"
        assert await drain(control, undo=True) == (200, {"service": "a", "status": "running"})
        await control.until_healthy("a")


async def test_what_the_registry_refuses_is_told_in_its_words(short_dir: Path) -> None:
    async with registered(short_dir, "the-registrys", admin_token=TOKEN) as control:
        status, error = await drain(control)
        assert (status, error["code"]) == (502, "registry_refused")
        assert "a could not be changed: the registry answered 401" in error["message"]
        assert TOKEN not in error["message"]
        assert await control.healthy() == {"a"}


async def test_without_a_token_set_nobody_may_do_anything(short_dir: Path) -> None:
    async with registered(short_dir) as control:
        for headers in ({}, BEARER, {"authorization": "Bearer "}, {"authorization": ""}):
            status, error = await drain(control, headers=headers)
            assert (status, error["code"]) == (403, "actions_not_allowed")
        assert await control.healthy() == {"a"}


@pytest.mark.parametrize(
    "said", [None, "", "Bearer", "Bearer ", TOKEN, f"Bearer {TOKEN} ", f"Bearer {TOKEN}x", "Bearer é"]
)
async def test_without_the_very_token_nothing_is_done(short_dir: Path, said: str | None) -> None:
    refused = Guard(TOKEN).refusal({} if said is None else {"authorization": said})
    assert refused is not None
    assert (refused[0], TOKEN in refused[2]) == (401, False)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://elsewhere"},
        {"origin": "null"},
        {"origin": "http://router.elsewhere"},
        {"origin": "http://router:81"},
    ],
)
async def test_a_page_of_another_site_may_not_act_even_with_the_token(headers: dict[str, str]) -> None:
    refused = Guard(TOKEN).refusal({"host": "router"} | BEARER | headers)
    assert refused is not None
    assert (refused[0], refused[1]) == (403, "cross_origin")


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "same-origin"}, {"origin": "http://Router"}])
async def test_the_routers_own_page_and_programs_may_act_with_the_token(headers: dict[str, str]) -> None:
    assert Guard(TOKEN).refusal({"host": "router"} | BEARER | headers) is None


async def test_an_action_is_never_done_by_get_and_never_by_a_form(short_dir: Path, tmp_path: Path) -> None:
    async with house(short_dir, admin_token=TOKEN, static_services=write_static(tmp_path / "s.json")) as control:
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            async with control.session.request(method, DRAIN + "?service=a", headers=BEARER) as response:
                assert response.status == 405
                assert "access-control-allow-origin" not in response.headers
        for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
            async with control.session.post(
                DRAIN, data=b'{"service": "a"}', headers=BEARER | {"content-type": kind}
            ) as response:
                assert response.status == 415


async def test_an_order_that_cannot_be_read_or_carried_out_is_refused(short_dir: Path, tmp_path: Path) -> None:
    async with engine() as one:
        file = write_static(tmp_path / "s.json", static("fixed", one.port))
        async with house(short_dir, admin_token=TOKEN, static_services=file) as control:
            await control.until_healthy("fixed")
            headers = BEARER | {"content-type": "application/json"}
            for body in (b"", b"[]", b'{"service": 1}', b'{"service": "a", "more": 1}', b"\xff", b"[" * 4000):
                async with control.session.post(DRAIN, data=body, headers=headers) as response:
                    assert response.status == 400, body
            async with control.session.post(DRAIN, data=b" " * 5000, headers=headers) as response:
                assert response.status == 413
            assert (await drain(control, "nobody"))[0] == 404
            status, error = await drain(control, "fixed")
            assert (status, error["code"]) == (409, "service_is_static")
            assert '"status": "draining"' in error["message"]


def test_a_token_that_could_be_guessed_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in ("", "short", "x" * 15 + "\n"):
        file.write_text(content)
        with pytest.raises(ConfigError, match="16 characters") as told:
            check_router(RouterConfig(admin_token_file=str(file)))
        assert "xxx" not in str(told.value)
    file.write_text("x" * 16 + "\n")
    check_router(RouterConfig(admin_token_file=str(file)))
    assert read_admin_token(str(file)) == "x" * 16
    with pytest.raises(ConfigError, match="none"):
        check_router(RouterConfig(admin_token_file=str(tmp_path / "none")))
