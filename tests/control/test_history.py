"""The last minutes are known to whoever begins to look, though nobody looked while they passed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from enginehouse.control import history as module
from enginehouse.control.history import KEPT, History
from enginehouse.control.measured import Measured
from enginehouse.control.publisher import Publisher
from enginehouse.control.roster import Roster
from enginehouse.core.fleet import Report, encode_frame
from tests.control.rig import House, house, new_shared, until


def report(requests: int, waiting: int = 0) -> Report:
    """A worker's, that has answered so many."""
    series = (("requests_total", ("m", "a", "answered", "2xx"), (requests,)),)
    gauges = (("queue_length", ("m",), (waiting,)),)
    return Report(worker=0, epoch=1, fleet_version=0, measures=series, gauges=gauges)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def measured() -> Measured:
    return Measured()


@pytest.fixture
def history(measured: Measured, clock: Clock) -> History:
    roster = Roster([], 3, 1.0, lambda *_: None, lambda *_: None)
    return History(measured, Publisher(lambda _: None), roster, new_shared(), clock)


def test_a_row_has_the_rates_since_the_one_before(history: History, measured: Measured, clock: Clock) -> None:
    measured.add(report(1000))
    history.step()
    assert history.told()["rows"] == [], "what was before is of no known time"
    for requests in (1050, 1060):
        measured.add(report(requests))
        clock.now += 5.0
        history.step()
    assert [row["rate"] for row in history.told()["rows"]] == [10.0, 2.0]
    assert history.told()["rows"][0] == {
        "rate": 10.0,
        "error_rate": 0.0,
        "tokens_in_rate": 0.0,
        "tokens_out_rate": 0.0,
        "ttft": None,
        "hit_share": None,
        "in_flight": 0,
        "waiting": 0,
    }


def test_five_minutes_are_kept_and_no_more(history: History, clock: Clock) -> None:
    for _ in range(KEPT + 100):
        clock.now += 5.0
        history.step()
    assert len(history.told()["rows"]) == KEPT
    assert history.told()["step"] * KEPT == 300


async def first_object(running: House) -> dict[str, Any]:
    async with running.session.get("http://router/dashboard/feed") as response:
        while not (line := await response.content.readline()).startswith(b"data: "):
            pass
        return dict(json.loads(line.removeprefix(b"data: ")))


async def test_the_first_object_of_the_feed_tells_what_was_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 0.02)
    async with house(tmp_path, registry_url="") as running, running.worker() as wire:
        told = 0

        async def busy() -> bool:
            nonlocal told
            told += 1
            wire.writer.write(encode_frame(report(told, waiting=2)))
            first = await first_object(running)
            rows = first["history"]["rows"]
            return first["totals"]["rate"] > 0 and any(row["rate"] > 0 and row["waiting"] == 2 for row in rows)

        await until(busy, "a second in which something was asked")


async def test_what_the_control_before_this_one_counted_is_not_taken_for_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 0.02)
    async with house(tmp_path, registry_url="") as running:
        async with running.worker() as wire:
            wire.writer.write(encode_frame(report(1_000_000)))

            async def shown() -> bool:
                async with running.session.get("http://router/metrics") as response:
                    return "1000000" in await response.text()  # and with that kept

            await until(shown, "the worker's report")
        ready = asyncio.Event()
        successor = running.start_successor(ready.set)
        await asyncio.wait_for(ready.wait(), 20)
        await running.end()

        async def some() -> bool:
            return len((await first_object(running))["history"]["rows"]) > 3

        await until(some, "some history")
        assert {row["rate"] for row in (await first_object(running))["history"]["rows"]} == {0.0}
        successor.cancel()
        await asyncio.wait([successor])
