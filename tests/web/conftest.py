"""A real Chromium without a window, and a page in it that looks at a scripted router.

Owns starting it, and that no page may complain: an error, a refusal of the browser (of what the security headers
forbid) or a request that leaves the router fails the test. May not live here: what a page shows.

Debian's package `chromium` is needed; a machine without it fails these tests, it does not skip them. Another browser of
the family may be named in ENGINEHOUSE_TEST_CHROMIUM.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.web.scripted import Scripted, serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: It must reach for nothing by itself, and as root it has no sandbox.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
#: Milliseconds that a page may take for anything; a loaded machine needs many times the usual few.
PATIENCE = 30_000
expect.set_options(timeout=PATIENCE)


def _chromium() -> str:
    named = os.environ.get("ENGINEHOUSE_TEST_CHROMIUM", "")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), "")
    assert found, "these tests need Chromium (on Debian: apt-get install chromium)"
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for each file of tests."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
        yield browser
        await browser.close()


class Tab:
    """A page, the router that it looks at, and what it complained of."""

    def __init__(self, page: Page, context: BrowserContext, house: Scripted, url: str) -> None:
        self.page, self.context, self.house, self.url = page, context, house, url
        self.complaints: list[str] = []
        self.tolerant = False
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self.tolerant:
            self.complaints.append(message.text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.url, "data:")):
            self.complaints.append(f"asked for {url}")

    async def open(self, hash: str = "", *objects: dict[str, Any]) -> Page:
        """Open the page at a view and push objects to it, which it has taken when this returns."""
        await self.page.goto(f"{self.url}/dashboard{hash}")
        await asyncio.wait_for(self.house.followed.wait(), PATIENCE / 1000)
        for told in objects:
            await self.push(told)
        return self.page

    async def push(self, told: dict[str, Any]) -> None:
        """Push one object, and wait until the page has drawn it."""
        marked = told | {"version": f"{told['version']}-{id(told)}"}
        self.house.push(marked)
        await expect(self.page.locator("#link")).to_contain_text(str(marked["version"]))
        await self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@asynccontextmanager
async def tab(browser: Browser, **how: Any) -> AsyncIterator[Tab]:
    """A tab of its own, with nothing kept from others; `how`: options of a browser's context."""
    house = Scripted()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(house))
        context = await browser.new_context(**{"viewport": {"width": 1400, "height": 900}} | how)
        stack.push_async_callback(context.close)
        context.set_default_timeout(PATIENCE)
        opened = Tab(await context.new_page(), context, house, url)
        yield opened
        assert opened.complaints == []


@pytest_asyncio.fixture(loop_scope="module")
async def dashboard(browser: Browser) -> AsyncIterator[Tab]:
    """A tab as a desktop has it."""
    async with tab(browser) as opened:
        yield opened


@pytest.fixture
def quiet(dashboard: Tab) -> None:
    """For tests that break something on purpose: what the page says of it is no complaint."""
    dashboard.tolerant = True
