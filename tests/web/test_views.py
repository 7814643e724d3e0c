"""The other views in a real browser: requests, events, one service, one model, the chat, and what the token opens."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.web.conftest import Tab
from tests.web.scripted import ended, fleet, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "a-token-of-some-length"
NAME = "gpu000-1-server"


async def test_requests_under_way_and_ended_are_listed_and_can_be_filtered_and_held_still(dashboard: Tab) -> None:
    page = await dashboard.open("#/requests", fleet(16))
    broken = ended(900, 1_795_000_001.0, status=502, outcome="broke_midway", termination="ED", reason="only", id="mine")
    await dashboard.push(fleet(16, 1, recent=[broken, ended(901, 1_795_000_001.0)]))
    over = page.get_by_role("grid", name="Requests that have ended")
    await expect(over.locator(".rows .row:visible")).to_have_count(5)
    await expect(page.get_by_role("grid", name="Requests under way").locator(".rows .row:visible")).to_have_count(9)
    await page.get_by_label("Which requests").select_option("failed")
    await expect(over.locator(".rows .row:visible")).to_have_count(1)
    await expect(over.locator(".rows .row:visible")).to_contain_text("502 broke midway")
    await expect(over.get_by_title("ended by the engine within the answer")).to_be_visible()
    await page.get_by_label("Which requests").select_option("")
    await page.get_by_role("searchbox").fill("mine")
    await expect(over.locator(".rows .row:visible")).to_have_count(1)
    await page.get_by_role("searchbox").fill("")
    await page.get_by_role("button", name="Hold still").click()
    await dashboard.push(fleet(16, 2, recent=[ended(902, 1_795_000_002.0, model="late")]))
    await expect(over).not_to_contain_text("late")
    await page.get_by_role("button", name="Go on").click()
    await expect(over).to_contain_text("late")


async def test_ids_that_clients_choose_may_be_the_same_and_a_request_told_twice_is_shown_once(dashboard: Tab) -> None:
    same = [ended(number, 1_795_000_000.0 + number, id="same") for number in range(3)]
    under = [
        {"id": "same", "model": "m", "service": "", "seconds": s, "stream": False, "phase": "sent"} for s in (1, 2)
    ]
    page = await dashboard.open("#/requests", fleet(16, recent=same, under_way=under))
    await dashboard.push(fleet(16, 1, recent=same, under_way=under))
    over = page.get_by_role("grid", name="Requests that have ended")
    await expect(over.locator(".rows .row:visible")).to_have_count(3)
    await expect(page.get_by_role("grid", name="Requests under way").locator(".rows .row:visible")).to_have_count(2)


async def test_events_stand_newest_first_with_who_and_why_and_lead_to_the_service(dashboard: Tab) -> None:
    kinds = ["joined", "up", "ejected", "returned"]
    events = [
        {"id": number, "time": 1_795_000_000.0 + number, "kind": kind, "service": NAME, "reason": f"why {number}"}
        for number, kind in enumerate(kinds)
    ]
    page = await dashboard.open("#/events", fleet(16, events=events))
    lines = page.get_by_role("grid", name="Events").locator(".rows .row:visible")
    await expect(lines).to_have_count(4)
    await expect(lines.filter(has_text="returned")).to_have_attribute("aria-rowindex", "2")
    await page.get_by_role("searchbox").fill("ejected")
    await expect(lines).to_have_count(1)
    await lines.get_by_text("why 2").click()
    await expect(page.get_by_role("heading", name=NAME)).to_be_visible()


async def test_a_service_shows_why_it_is_as_it_is_its_probes_its_babysitter_and_its_last_requests(
    dashboard: Tab,
) -> None:
    dashboard.house.details = {
        "recent": [ended(5, 1_795_000_000.0, service=NAME, model="from before")],
        "probes": [
            {"time": 1_795_000_000.0, "ok": False, "reason": "connection refused", "ms": 2.0},
            {"time": 1_794_999_970.0, "ok": True, "reason": "", "ms": 4.0},
        ],
        "babysitter": {"state": "starting", "reason": None, "uptime": 300, "restart_count": 2, "service_type": "vllm"},
    }
    told = fleet(16)
    told["services"][1] = service(1, "down")
    page = await dashboard.open(f"#/service/{NAME}", told)
    await expect(page.get_by_text("Because: connection refused")).to_be_visible()
    await expect(page.get_by_text("failed 2.0 ms: connection refused")).to_be_visible()
    await expect(page.get_by_text("restart count")).to_be_visible()
    await dashboard.push(told | {"time": told["time"] + 2})
    await expect(page.get_by_role("grid", name="Its last requests")).to_contain_text("from before")
    await expect(page.get_by_role("button", name="Drain")).to_be_hidden()
    await expect(page.get_by_text("the router takes no actions")).to_be_visible()


async def test_the_last_requests_of_a_service_are_in_order_whoever_told_of_them(dashboard: Tab) -> None:
    """The details know some from before the page was opened, and are older than what the feed has told since."""
    at = 1_795_000_000.0
    dashboard.house.details = {
        "recent": [ended(3, at + 3, service=NAME), ended(1, at + 1, service=NAME)],
        "probes": [{"time": at, "ok": True, "reason": "", "ms": 4.0}],
    }
    page = await dashboard.open(f"#/service/{NAME}", fleet(16, recent=[]))
    rows = page.locator(".grid.ended .rows .row:not([hidden])")
    await expect(page.get_by_text("passed 4.0 ms")).to_be_visible()
    await dashboard.push(fleet(16, 1, recent=[ended(2, at + 2, service=NAME), ended(4, at + 4, service=NAME)]))
    await expect(rows).to_have_count(4)
    script = "(rows) => rows.sort((a, b) => a.dataset.place - b.dataset.place).map((row) => row.textContent)"
    shown = await rows.evaluate_all(script)
    assert [
        text.count(f"{ended(number, 0)['ttft_ms']} ms") for text, number in zip(shown, (4, 3, 2, 1), strict=True)
    ] == [1] * 4


async def test_a_service_that_is_gone_is_said_to_be_gone(dashboard: Tab) -> None:
    page = await dashboard.open("#/service/nobody", fleet(3))
    await expect(page.get_by_text("no service of this name now")).to_be_visible()


async def test_draining_asks_for_the_token_keeps_it_for_this_tab_only_and_says_what_was_done(
    dashboard: Tab, quiet: None
) -> None:
    house = dashboard.house
    house.token = TOKEN
    house.details = {"log": ["a line of the log"], "probes": [], "babysitter": None}
    page = await dashboard.open(f"#/service/{NAME}", fleet(16, actions=True))
    await page.get_by_role("button", name="Drain").click()
    await page.get_by_role("textbox", name="Token").fill("a wrong one, and long")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The router does not take this token.")).to_be_visible()
    assert house.asked == []
    await page.get_by_role("textbox", name="Token").fill(TOKEN)
    await page.get_by_role("button", name="Keep it for this tab").click()
    await expect(page.get_by_text(f"{NAME} drains")).to_be_visible()
    assert house.asked == [{"service": NAME, "undo": False}]
    told = fleet(16, 1, actions=True)
    told["services"][1] |= {"state": "draining", "reason": "draining: it finishes what it has"}
    await dashboard.push(told)
    await page.get_by_role("button", name="Take it back").click()
    await expect(page.get_by_text(f"{NAME} takes requests again")).to_be_visible()
    assert house.asked[1:] == [{"service": NAME, "undo": True}]
    await expect(page.get_by_text("a line of the log")).to_be_visible()
    kept = await page.evaluate("JSON.stringify([{...localStorage}, document.cookie, location.href])")
    assert TOKEN not in kept
    assert await page.evaluate("sessionStorage.getItem('enginehouse.token')") == TOKEN


async def test_without_the_token_there_is_no_line_of_any_log(dashboard: Tab) -> None:
    dashboard.house.token = TOKEN
    dashboard.house.details = {"log": ["a line of the log"], "probes": [], "babysitter": None}
    page = await dashboard.open(f"#/service/{NAME}", fleet(16, actions=True))
    await expect(page.get_by_text("Shown with the token only")).to_be_visible()
    await expect(page.get_by_text("a line of the log")).to_have_count(0)


async def test_a_model_shows_its_policy_and_only_the_services_that_serve_it(dashboard: Tab) -> None:
    page = await dashboard.open("#/model/BAAI%2Fbge-m3", fleet(16))
    await expect(page.get_by_role("heading", name="BAAI/bge-m3")).to_be_visible()
    await expect(page.get_by_text("4 of 5 services can take requests. Policy prefix")).to_be_visible()
    table = page.get_by_role("grid", name="Services of this model")
    await expect(table.locator(".rows .row:visible")).to_have_count(5)
    await page.get_by_role("link", name="Try it", exact=True).last.click()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("BAAI/bge-m3")


async def test_the_chat_streams_and_says_who_answered_and_why_in_words(dashboard: Tab) -> None:
    house = dashboard.house
    page = await dashboard.open("#/try", fleet(16))
    most = max(fleet(16)["models"], key=lambda model: int(model["services"]))
    await expect(page.get_by_label("Model", exact=True)).to_have_value(most["id"])
    await page.get_by_label("Model", exact=True).select_option("Qwen/Qwen2.5-7B-Instruct")
    await page.get_by_label("Your message").fill("Hello?")
    await page.keyboard.press("Enter")
    answer = page.locator(".said.house")
    await expect(answer).to_contain_text("The house answers.")
    await expect(answer.get_by_role("link", name=NAME)).to_be_visible()
    await expect(answer).to_contain_text("87% of the prompt is thought to be in its cache")
    await expect(answer).to_contain_text("11 → 3")
    await page.get_by_label("Your message").fill("And again?")
    await page.get_by_role("button", name="Send").click()
    await expect(answer).to_have_count(2)
    await expect(answer.last).to_contain_text("The house answers.")
    said = [(message["role"], message["content"]) for message in house.asked[1]["messages"]]
    assert said == [("user", "Hello?"), ("assistant", "The house answers."), ("user", "And again?")]
    assert house.asked[1]["stream"] is True


async def test_every_control_has_a_name_and_every_view_one_heading_of_the_first_rank(dashboard: Tab) -> None:
    page = await dashboard.open("", fleet(16, actions=True))
    for view in ("#/", "#/requests", "#/events", "#/try", f"#/service/{NAME}", "#/model/BAAI%2Fbge-m3"):
        await page.evaluate(f"location.hash = '{view}'")
        await dashboard.push(fleet(16, 1, actions=True))
        assert await page.evaluate(NAMELESS) == [], view
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)


#: Every control that a screen reader would have no name for.
NAMELESS = """() => [...document.querySelectorAll("a, button, input, select, textarea, [tabindex='0']")]
    .filter((node) => node.checkVisibility())
    .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.length))
    .map((node) => node.outerHTML)"""
