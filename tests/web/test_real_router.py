"""The dashboard of a real router before simulated engines: feed, chat and drain, from the browser to the registry.

A whole house takes seconds to start, so this is one story.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.contract.router import Router, engines, running, send
from tests.registry.running import RegistryProcess, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "a-token-of-some-length"


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    """A router that knows two engines from a registry, and takes actions."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with engines(one={"models": ["m"]}, two={"models": ["m"]}) as sims, RegistryProcess() as registry:
        for sim in sims.values():
            record = service(sim.name, sim.port, metadata={"type": "openai-api"})
            assert send(registry.url, "POST", "/services", record).status == 201
        settings: dict[str, Any] = {"registry_url": registry.url, "admin_token_file": str(file), "slow_start": 0}
        with running(tmp_path / "router", **settings) as started:
            started.until_healthy("one", "two")
            yield started


async def test_an_order_tells_control_which_host_was_asked_so_that_another_sites_page_is_known(router: Router) -> None:
    """Browsers name the page's origin; control compares it with the Host that the client sent, not with its own."""
    for origin, status in ((router.url, 404), ("http://elsewhere", 403), (f"http://127.0.0.1:{router.port + 1}", 403)):
        headers = {"authorization": f"Bearer {TOKEN}", "origin": origin}
        answer = router.ask("POST", "/dashboard/actions/drain", {"service": "nobody"}, headers)
        assert (origin, answer.status) == (origin, status)


async def test_a_chat_is_answered_seen_in_the_list_and_its_service_is_drained_and_taken_back(
    router: Router, browser: Browser
) -> None:
    context = await browser.new_context(viewport={"width": 1400, "height": 900})
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{router.url}/dashboard/")  # leads to the one without a slash
    assert page.url == f"{router.url}/dashboard"
    table = page.get_by_role("grid", name="Services")
    await expect(table.locator(".rows .row:visible")).to_have_count(2)
    await expect(table.get_by_text("up", exact=True)).to_have_count(2)

    await page.get_by_role("link", name="Try it").click()
    await page.get_by_label("Your message").fill("Say something.")
    await page.keyboard.press("Enter")
    answer = page.locator(".said.house")
    await expect(answer.get_by_text("Tokens / s")).to_be_visible()
    name = await answer.get_by_role("link").inner_text()
    assert name in ("one", "two")
    await expect(answer.locator("p").last).not_to_be_empty()

    await page.get_by_role("link", name="Requests").click()
    over = page.get_by_role("grid", name="Requests that have ended")
    await expect(over.locator(".rows .row:visible", has_text=name).first).to_contain_text("200 ok")

    await page.get_by_role("link", name="Events").click()
    await expect(page.get_by_role("grid", name="Events").get_by_text("joined").first).to_be_visible()

    await page.evaluate(f"location.hash = '#/service/{name}'")
    await expect(page.get_by_text("passed").first).to_be_visible()
    await page.get_by_role("button", name="Drain").click()
    await page.get_by_role("textbox", name="Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text(f"{name} drains")).to_be_visible()
    await expect(page.locator(".bar .state")).to_contain_text("drain")
    assert await asyncio.to_thread(router.healthy) == {"one", "two"} - {name}
    await page.get_by_role("button", name="Take it back").click()
    await expect(page.locator(".bar .state")).to_contain_text("up")
    assert complaints == []
    assert TOKEN not in router.log
    await context.close()
