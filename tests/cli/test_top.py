"""`enginehouse top`: what its screen shows in a terminal of any size, and its keys in a real one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from enginehouse.cli.top_screen import ORDERS, PANES, Chosen, first_row, screen
from enginehouse.cli.top_state import House
from tests.cli.programs import COMMAND, DEADLINE
from tests.contract.router import engines, running, static, until

TTFT = {"p50": 0.02, "p90": 0.2, "p99": 2.0}


def service(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "state": "up", "reason": "", "models": ["m"], "in_flight": 3, "capacity": 4, "waiting_tokens": 0,
        "requests": 12345, "errors": 0, "rate": 10.0, "token_rate": 512.0, "ttft": TTFT, "weight": 1, "url": "http://h",
    } | more  # fmt: skip


def told(*services: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One object of the feed."""
    totals = {
        "requests": 99, "errors": 2, "in_flight": 3, "waiting": 1, "tokens_in": 1, "tokens_out": 1, "tokens_cached": 1,
        "rate": 12.5, "error_rate": 0.0, "tokens_in_rate": 800.0, "tokens_out_rate": 512.0, "ttft": TTFT,
        "hit_share": 0.63,
    }  # fmt: skip
    model = {
        "id": "m", "services": 2, "healthy": 1, "policy": "prefix", "in_flight": 3, "waiting": 1, "rate": 12.5,
        "ttft": TTFT, "hit_share": None,
    }  # fmt: skip
    return {
        "time": 1_700_000_000.0, "version": "1", "synced": True, "policy": "prefix", "actions": False, "full": True,
        "totals": totals, "services": list(services), "models": [model], "under_way": [], "recent": [], "events": [],
        "history": {"step": 5.0, "rows": []},
    } | more  # fmt: skip


ENDED = {
    "id": "r1", "time": 1_700_000_000.0, "model": "m", "service": "a", "status": 502, "outcome": "connect_failed",
    "termination": "EC", "ms": 12.0, "ttft_ms": None, "tokens_in": None, "tokens_out": None, "reason": "only",
}  # fmt: skip
RUNNING = {"id": "r2", "model": "m", "service": "", "seconds": 4.2, "stream": False, "phase": "waiting"}
EVENT = {"id": 7, "time": 1_700_000_000.0, "kind": "ejected", "service": "b", "reason": "too many"}


def lines(house: House, width: int = 140, height: int = 24, **chosen: Any) -> list[str]:
    return [line.plain for line in screen(house, Chosen(**chosen), "http://r", width, height)]


def house_of(*objects: dict[str, Any]) -> House:
    house = House()
    for each in objects:
        house.take(each)
    return house


def test_a_row_says_how_a_service_does_and_a_sick_one_why() -> None:
    house = house_of(told(service("a"), service("b", state="down", reason="connection refused", ttft=None, rate=0.0)))
    shown = lines(house)
    assert "1 of 2 services healthy" in shown[0]
    row = next(line for line in shown if line.startswith("a "))
    assert row.split() == ["a", "up", "████████░░", "3/4", "10.0", "512", "20ms", "200ms", "12.3k", "0", "m"]
    row = next(line for line in shown if line.startswith("b "))
    assert row.split()[:2] == ["b", "down"]
    assert row.endswith("connection refused")
    assert "requests/s   12.5" in shown[1]
    assert "in flight 3  waiting 1  errors 2" in shown[1]
    assert "of prompts in caches 63%" in shown[2]
    assert "p50 20ms  p90 200ms  p99 2.0s" in shown[3]


@pytest.mark.parametrize("height", [1, 3, 8, 12, 24, 60])
@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("pane", PANES)
def test_a_screen_of_any_size_is_filled_and_nothing_is_wider(width: int, height: int, pane: str) -> None:
    services = [service(f"service-{number:03}" + "x" * 60) for number in range(30)]
    house = house_of(told(*services, recent=[ENDED] * 3, under_way=[RUNNING] * 3, events=[EVENT]))
    found = screen(house, Chosen(pane=pane), "http://r", width, height)
    assert len(found) == height
    assert max(line.cell_len for line in found) <= width


def test_what_was_before_is_seen_from_the_beginning() -> None:
    quiet = {"rate": 1.0, "tokens_out_rate": 0.0, "ttft": None}
    house = house_of(told(history={"step": 5.0, "rows": [quiet, quiet]}), told())
    assert list(house.rates) == [1.0] * 10 + [12.5] * 2
    assert "▁▁▁▁▁▁██" in lines(house)[1]


def test_rows_that_are_not_told_again_stay_and_services_that_are_gone_go() -> None:
    house = house_of(told(service("a"), service("b")), told(service("a", rate=99.0), full=False))
    assert house.services["a"]["rate"] == 99.0
    assert "b" in house.services
    house.take(told(service("a")))
    assert set(house.services) == {"a"}


def test_below_stand_events_requests_or_models() -> None:
    house = house_of(told(service("a"), recent=[ENDED], under_way=[RUNNING], events=[EVENT]))
    assert any("ejected" in line and "too many" in line for line in lines(house, pane="events"))
    requests = lines(house, pane="requests")
    assert any("waiting" in line and "4.2s" in line for line in requests)
    assert any("502" in line and "connect_failed (EC)  only" in line for line in requests)
    assert any(line.split()[:4] == ["m", "1/2", "prefix", "3"] for line in lines(house, pane="models"))


def test_what_is_told_twice_is_shown_once() -> None:
    house = house_of(told(events=[EVENT], recent=[ENDED]), told(events=[EVENT], recent=[ENDED]))
    assert (len(house.events), len(house.recent)) == (1, 1)


def test_services_are_ordered_by_what_was_chosen() -> None:
    house = house_of(
        told(
            service("a", rate=1.0, in_flight=1, capacity=4),
            service("b", rate=5.0, in_flight=0, state="down"),
            service("c", rate=3.0, in_flight=4, capacity=4),
        )
    )
    assert {by: "".join(row["name"] for row in house.sorted(by)) for by in ORDERS} == {
        "name": "abc",
        "state": "bac",
        "load": "cab",
        "rate": "bca",
    }


def test_one_scrolls_no_further_than_there_are_services() -> None:
    house = house_of(told(*[service(f"s{number:02}") for number in range(50)]))
    shown = lines(house, first=10_000)
    assert any(line.startswith("s49 ") for line in shown)
    assert "of 50" in shown[-1]
    assert [first_row(wanted, 50, 14) for wanted in (-1, 5, 10_000)] == [0, 5, 36]


def test_an_empty_house_says_what_to_do_next() -> None:
    assert any("No service yet. Start an engine with" in line for line in lines(house_of(told())))


def test_a_lost_router_and_a_pause_are_said_at_the_top() -> None:
    house = house_of(told(service("a")))
    house.lost = "http://r cannot be reached: Connection refused"
    assert "Connection refused; trying again" in lines(house, paused=True, width=200)[0]
    assert "  paused" in lines(house, paused=True, width=200)[0]


def test_names_cannot_paint_on_the_terminal() -> None:
    house = house_of(told(service("a\x1b[2Jb", reason="x\x07\x1b]0;t\x07y"), events=[EVENT | {"reason": "\x1b[31mz"}]))
    assert not any("\x1b" in line or "\x07" in line for line in lines(house))


class Terminal:
    """A terminal with `top` in it."""

    def __init__(self, url: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 130, 0, 0))
        self.before = termios.tcgetattr(theirs)
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        env["TERM"] = "xterm-256color"
        command = [*COMMAND, "top", "--router", url]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        self._theirs = theirs
        self.seen = ""

    def press(self, keys: bytes) -> None:
        """Keys, after which only what comes is looked at."""
        self.seen = ""
        os.write(self._ours, keys)

    def shows(self, words: str) -> None:
        end = time.monotonic() + DEADLINE
        while words not in self.seen:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"never shown: {words}; seen: {self.seen[-2000:]}"
            self.seen += os.read(self._ours, 65536).decode(errors="replace")

    def close(self) -> list[Any]:
        """The terminal's settings after its end."""
        status = self.process.wait(DEADLINE)
        assert status == 0
        after = termios.tcgetattr(self._theirs)
        os.close(self._ours)
        os.close(self._theirs)
        return list(after)


def test_in_a_terminal_it_lives_follows_keys_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with engines(a={"models": ["m"]}) as sims, running(tmp_path, [static(sims["a"])]) as router:
        until(lambda: router.healthy() == {"a"}, "a healthy service")
        terminal = Terminal(router.url)
        terminal.shows("1 of 1 services healthy")
        terminal.shows("EVENTS")
        terminal.press(b"s")
        terminal.shows("order: state")
        terminal.press(b"\t")
        terminal.shows("HOW IT ENDED")
        assert router.chat().status == 200
        terminal.shows("answered  only")
        terminal.press(b"p")
        terminal.shows("paused")
        terminal.press(b"q")
        assert terminal.close() == terminal.before
