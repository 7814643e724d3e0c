"""The reference of the HTTP interfaces: every path that is served is in it, with the members that are really sent."""

from __future__ import annotations

import asyncio
import mmap
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from enginehouse.app import DASHBOARD
from enginehouse.babysitter import api as babysitter
from enginehouse.cli.reference_http import http_page
from enginehouse.control import api
from enginehouse.control.run import run
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import SIZE, Shared
from enginehouse.registry.client import FeedUnsupported
from enginehouse.wire.own_paths import ANY, EXPLAIN, OWN_PATHS, WORKERS_PATHS, OwnPath
from tests.contract.router import Router

PAGE = http_page()
TOLD = [own for own in OWN_PATHS if own.members and own.methods in ("GET", "POST")]


async def application(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    """What a control process serves, as it has put it together."""
    made: list[Starlette] = []
    stop = asyncio.Event()

    async def serve(app: Starlette, _: socket.socket) -> None:
        made.append(app)
        stop.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(api, "serve", serve)
    with socket.socket(socket.AF_UNIX) as wire:
        wire.bind(str(folder / "wire"))
        wire.listen()
        shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
        await run(RouterConfig(), wire, wire, shared, Mock(), DASHBOARD, no_feed=FeedUnsupported, stop=stop)
    return made[0]


async def test_every_path_of_the_router_is_in_the_table_and_the_table_has_no_other(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = [route for route in (await application(short_dir, monkeypatch)).routes if isinstance(route, Route)]
    served = {(route.path, method) for route in routes for method in (route.methods or ()) if method != "HEAD"}
    listed = {(own.path, own.methods) for own in OWN_PATHS if own.methods != ANY}
    assert listed <= served
    anything = {own.path for own in OWN_PATHS if own.methods == ANY or own.path == EXPLAIN}
    assert {(path, method) for path, method in served if path not in anything} <= listed


@pytest.mark.parametrize("own", TOLD, ids=lambda own: own.path)
def test_the_members_in_the_table_are_those_that_are_sent(router: Router, own: OwnPath) -> None:
    path = own.path.replace("{name}", "a")
    answer = router.ask(own.methods, path, {"model": "m", "messages": []} if own.methods == "POST" else None)
    assert answer.status == 200
    assert list(answer.json) == own.members.split()


def test_every_path_of_a_babysitter_is_in_the_table_and_the_table_has_no_other() -> None:
    resources = babysitter.application(Mock(), Mock(), Mock(), Mock(), "").router.resources()
    assert {resource.canonical for resource in resources} == set(babysitter.PATHS)


@pytest.mark.parametrize("own", [*OWN_PATHS, *WORKERS_PATHS], ids=lambda own: own.path)
def test_the_page_has_every_path_of_the_table(own: OwnPath) -> None:
    assert f"{own.path.replace(':path', '')}`" in PAGE
