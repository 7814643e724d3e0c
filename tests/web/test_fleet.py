"""The overview in a real browser: what is there, what moves, what a person can do with keyboard and filter."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.web.conftest import Tab, tab
from tests.web.scripted import fleet, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICES = ".grid.services .rows .row:not([hidden])"


async def rows(opened: Tab, kind: str = "services") -> list[str]:
    """Names in a table, from top to bottom."""
    script = """(rows) => rows.filter((row) => !row.hidden)
        .sort((one, other) => one.dataset.place - other.dataset.place)
        .map((row) => row.querySelector("a").textContent)"""
    return list(await opened.page.eval_on_selector_all(f".grid.{kind} .rows .row", script))


async def test_it_shows_the_services_with_their_states_and_reasons__what_needs_a_person_first(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(16))
    assert (await rows(dashboard))[:4] == ["gpu001-5-server", "gpu001-4-server", "gpu001-7-server", "gpu001-6-server"]
    first = page.locator(SERVICES).first
    await expect(page.locator(SERVICES, has_text="gpu001-5-server")).to_contain_text("down")
    await expect(page.locator(SERVICES, has_text="gpu001-5-server")).to_contain_text("connection refused")
    await expect(first).to_be_visible()
    await expect(page.locator(".grid.models .rows .row", has_text="bge-m3")).to_contain_text("4 of 5")
    await expect(page.get_by_role("grid", name="Services")).to_have_attribute("aria-rowcount", "17")
    assert await page.title() == "Fleet · Enginehouse"


async def test_numbers_and_charts_follow_the_feed_without_anything_being_asked_for(dashboard: Tab) -> None:
    page = await dashboard.open("", *(fleet(16, tick) for tick in range(5)))
    chart = page.get_by_role("img", name="Requests / s: all 5")
    before = await page.locator(".chart .line.l0").first.get_attribute("d")
    await expect(chart).to_be_visible()
    told = fleet(16, 5)
    told["totals"]["rate"] = 777.0
    await dashboard.push(told)
    await expect(page.locator(".chart").first.locator(".value")).to_have_text("777")
    assert await page.locator(".chart .line.l0").first.get_attribute("d") != before


async def test_the_charts_have_the_minutes_before_the_page_was_opened(dashboard: Tab) -> None:
    row = fleet(16)["totals"]
    rows = [row | {"rate": float(rate)} for rate in range(60)]
    page = await dashboard.open("", fleet(16, 1, history={"step": 5.0, "rows": rows}))
    drawn = await page.locator(".chart .line.l0").first.get_attribute("d")
    assert drawn is not None
    assert len(drawn.split("L")) > 250, "as many points as seconds"
    told = fleet(16, 2, history={"step": 5.0, "rows": []})
    await dashboard.push(told)
    again = await page.locator(".chart .line.l0").first.get_attribute("d")
    assert again is not None
    assert len(again.split("L")) > 250, "after a pause nothing is put before what is known"


async def test_an_object_with_changes_only_changes_these_rows_and_no_others(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(16))
    changed = fleet(16, 1, full=False, services=[service(3, "ejected")])
    await dashboard.push(changed)
    await expect(page.locator(SERVICES, has_text="gpu000-3-server")).to_contain_text("ejected")
    await expect(page.get_by_role("grid", name="Services")).to_have_attribute("aria-rowcount", "17")
    await dashboard.push(fleet(15, 2))
    assert "gpu001-7-server" not in await rows(dashboard)


async def test_the_filter_and_the_states_narrow_the_list_and_the_slash_key_leads_to_the_filter(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(32))
    await page.keyboard.press("/")
    await page.keyboard.type("llama gpu001")
    assert await rows(dashboard) == ["gpu001-5-server", "gpu001-2-server"]
    await page.get_by_role("searchbox").fill("")
    await page.get_by_role("button", name="ejected 2").click()
    assert await rows(dashboard) == ["gpu001-4-server", "gpu003-4-server"]
    await page.get_by_role("searchbox").fill("nothing like that")
    await expect(page.get_by_text("No service matches the filter.")).to_be_visible()


async def test_a_column_sorts_and_sorts_the_other_way_round(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(12))
    rates = {row["name"]: row["rate"] for row in fleet(12)["services"]}
    await page.get_by_role("grid", name="Services").get_by_role("button", name="Req/s").click()
    assert await rows(dashboard) == sorted(rates, key=lambda name: -rates[name])
    await page.get_by_role("grid", name="Services").get_by_role("button", name="Req/s").click()
    assert await rows(dashboard) == sorted(rates, key=lambda name: rates[name])
    head = page.get_by_role("grid", name="Services").get_by_role("columnheader", name="Req/s")
    await expect(head).to_have_attribute("aria-sort", "ascending")


async def test_the_keyboard_alone_leads_from_the_list_to_a_service_and_back(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(16))
    await page.get_by_role("grid", name="Services").focus()
    for key in ("ArrowDown", "ArrowDown", "End", "Home", "ArrowDown"):
        await page.keyboard.press(key)
    active = await page.get_by_role("grid", name="Services").get_attribute("aria-activedescendant")
    await expect(page.locator(f"#{active}")).to_contain_text("gpu001-4-server")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="gpu001-4-server")).to_be_visible()
    assert await page.title() == "gpu001-4-server · Enginehouse"
    await page.keyboard.press("1")
    await expect(page.get_by_role("grid", name="Services")).to_be_visible()


async def test_an_empty_house_says_what_to_do_next_and_one_without_a_source_that_it_waits(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(0, synced=False))
    await expect(page.get_by_role("heading", name="Waiting for the first word")).to_be_visible()
    await dashboard.push(fleet(0, 1))
    await expect(page.get_by_role("heading", name="The house is open, and empty")).to_be_visible()
    await expect(page.get_by_text("[[engine]]")).to_be_visible()
    await expect(page.get_by_text("static_services")).to_be_visible()
    await dashboard.push(fleet(3, 2))
    await expect(page.get_by_role("grid", name="Services")).to_be_visible()
    await expect(page.get_by_text("[[engine]]")).to_be_hidden()


async def test_of_a_thousand_services_only_the_rows_in_view_exist_and_each_can_be_reached(dashboard: Tab) -> None:
    page = await dashboard.open("", *(fleet(1000, tick) for tick in range(3)))
    drawn = "document.querySelectorAll('.grid.services .rows .row').length"
    assert await page.evaluate(drawn) < 60
    await page.get_by_role("grid", name="Services").focus()
    await page.keyboard.press("End")
    await expect(page.locator(SERVICES, has_text="gpu124-7-server")).to_be_in_viewport()
    await page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    await expect(page.locator(".grid.services .row.active:not([hidden])")).to_have_count(0)
    assert await page.evaluate(drawn) < 90
    await expect(page.locator(".map path.window[data-state=ejected]")).to_have_count(1)


async def test_an_object_of_a_thousand_services_is_taken_and_drawn_well_within_its_second(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(1000))
    script = """() => new Promise((done) => {
        let longest = 0;
        const noted = (list) => list.getEntries().forEach(({ duration }) => (longest = Math.max(longest, duration)));
        new PerformanceObserver(noted).observe({ type: "longtask" });
        window.longest = () => longest;
        done();
    })"""
    await page.evaluate(script)
    for tick in range(1, 6):
        await dashboard.push(fleet(1000, tick))
    assert await page.evaluate("window.longest()") < 1000  # milliseconds; 40 on an idle machine


async def test_names_are_never_read_as_html(dashboard: Tab) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    told: dict[str, Any] = fleet(1, services=[service(0, reason=hostile, models=[hostile], name=hostile)])
    told["models"][0]["id"] = hostile
    told["events"] = [{"id": 1, "time": 1.0, "kind": hostile, "service": hostile, "reason": hostile}]
    told["recent"][0] |= {"model": hostile, "service": hostile, "outcome": hostile, "status": 500, "reason": hostile}
    page = await dashboard.open("", told)
    for view in (
        "#/",
        "#/events",
        "#/requests",
        "#/service/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
        "#/try",
        "#/model/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    ):
        await page.evaluate(f"location.hash = '{view}'")
        await expect(page.get_by_text(hostile).first).to_be_attached()
        assert await page.locator("img").count() == 0


async def test_when_the_router_goes_away_the_page_says_so_and_comes_back_by_itself(dashboard: Tab, quiet: None) -> None:
    page = await dashboard.open("", fleet(5))
    dashboard.house.broken = True
    dashboard.house.cut()
    await expect(page.get_by_role("alert")).to_contain_text("No word from the router")
    await expect(page.locator(SERVICES).first).to_be_visible()  # what was last known stays
    dashboard.house.broken = False
    await expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_colours_follow_the_system_until_somebody_chooses_and_text_can_be_read(
    browser: Browser, scheme: Any
) -> None:
    async with tab(browser, color_scheme=scheme) as opened:
        page = await opened.open("", fleet(16))
        assert await background(opened) == {"light": "#faf8f4", "dark": "#12161a"}[scheme]
        assert await page.evaluate(CONTRASTS) == []
        await page.get_by_role("button", name="Colours").click()
        await page.get_by_role("button", name="Colours").click()
        assert await background(opened) == "#12161a"
        await page.reload()
        assert await background(opened) == "#12161a"


async def background(opened: Tab) -> str:
    """The page's, as hexadecimal digits."""
    told = await opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", told)[:3])


#: Every visible text whose contrast (WCAG 2.2, 1.4.3) with what is behind it is below 4.5.
CONTRASTS = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const bad = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || !node.checkVisibility() || node.closest("[aria-hidden], .unseen, .skip")) continue;
        let behind = node;
        while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
        const one = rgb(getComputedStyle(node).color);
        const other = rgb(getComputedStyle(behind ?? document.body).backgroundColor);
        const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
        if ((high + 0.05) / (low + 0.05) < 4.5) bad.push(`${node.className} ${node.textContent.trim().slice(0, 20)}`);
    }
    return bad;
}"""


@pytest.mark.parametrize("hash", ["", "#/requests", "#/events", "#/try", "#/service/gpu000-1-server"])
async def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, hash: str) -> None:
    async with tab(browser, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True) as opened:
        page = await opened.open(hash, fleet(40), fleet(40, 1))
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_who_wants_less_motion_gets_none(browser: Browser) -> None:
    async with tab(browser, reduced_motion="reduce") as opened:
        page = await opened.open("", fleet(16))
        moving = (
            "[...document.querySelectorAll('*')].filter((n) => getComputedStyle(n).transitionDuration !== '0s').length"
        )
        assert await page.evaluate(moving) == 0
