"""The dashboard's files as a browser gets them: types, tags, and headers that leave nobody a way in."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from enginehouse.app import DASHBOARD
from tests.control.rig import House, write_static

NAMES = sorted(path.name for path in DASHBOARD.iterdir())


@pytest.fixture
async def running(short_dir: Path, tmp_path: Path) -> AsyncIterator[House]:
    """Control without any service."""
    control = House(short_dir, {"static_services": write_static(tmp_path / "s.json")}, lambda _: ("", ""))
    control.start()
    yield control
    await control.close()


async def test_the_page_and_each_of_its_files_come_with_their_type_and_with_headers_that_lock_them_up(
    running: House,
) -> None:
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for path in ["/dashboard", *(f"/dashboard/static/{name}" for name in NAMES)]:
        async with running.session.get(f"http://router{path}") as response:
            assert response.status == 200, path
            assert response.content_type == types[path.rpartition(".")[2] if "." in path else "html"]
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["x-frame-options"] == "DENY"
            assert response.headers["referrer-policy"] == "no-referrer"
            policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert "unsafe" not in response.headers["content-security-policy"]


async def test_a_file_that_the_browser_has_already_is_not_sent_again(running: House) -> None:
    url = "http://router/dashboard/static/app.js"
    async with running.session.get(url) as first:
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
    async with running.session.get(url, headers={"if-none-match": tag}) as again:
        assert (again.status, await again.read(), again.headers["etag"]) == (304, b"", tag)
    async with running.session.get(url, headers={"if-none-match": '"another"'}) as changed:
        assert changed.status == 200


async def test_there_is_no_way_out_of_the_directory_of_files(running: House) -> None:
    for name in ("none.js", "..%2f__init__.py", "../__init__.py", "%2e%2e/__init__.py", ""):
        async with running.session.get(f"http://router/dashboard/static/{name}") as response:
            assert response.status == 404, name
            assert b"import" not in await response.read()


async def test_with_a_slash_at_its_end_the_address_leads_to_the_page_below_any_prefix(running: House) -> None:
    async with running.session.get("http://router/dashboard/", allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (308, "../dashboard")


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/static/app.js"])
async def test_the_page_is_only_ever_read(running: House, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert (await running.get(path, method))[0] == 405


def test_no_file_loads_anything_from_anywhere_else_and_none_runs_or_styles_in_place() -> None:
    """What the headers forbid is not tried: an address of another host, code in attributes, `innerHTML`, `eval`."""
    for path in DASHBOARD.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://|//\w+\.\w+/|@import|innerHTML|outerHTML|insertAdjacentHTML|\beval\b", text) == []
        if path.suffix == ".html":
            assert re.findall(r"\son\w+=|\sstyle=|<style|<script>", text) == []


def test_every_file_is_one_idea_and_says_what_it_owns() -> None:
    for path in DASHBOARD.glob("*.js"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("// "), path
        assert len(lines) <= 300, path
