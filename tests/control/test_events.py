"""The journal of what happened to the fleet: bounded, in order, with reasons; and what becomes an event at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from enginehouse.control import events as module
from enginehouse.control.events import MEANINGS, Event, Journal, Kind
from enginehouse.control.roster import Rejected, Roster
from enginehouse.core.record import Record
from enginehouse.machines.health import Ejected, ProbeFailed, ProbePassed
from tests.control.rig import House, house, scripted, static, until, write_static
from tests.control.test_roster import GRACE, record, with_babysitter
from tests.ports import Ports

NOW = 1_700_000_000.25


def reasons(journal: Journal) -> list[str]:
    return [event.reason for event in journal.since(0)]


# the journal


def test_events_are_kept_in_order_and_asked_for_from_any_of_them_on() -> None:
    journal = Journal(lambda: NOW)
    began = journal.next
    for number in range(5):
        journal.add(Kind.UP, f"s{number}", "why")
    assert journal.since(0)[0] == Event(began, NOW, Kind.UP, "s0", "why")
    assert [event.service for event in journal.since(began + 3)] == ["s3", "s4"]
    assert [event.service for event in journal.since(began + 1, 2)] == ["s1", "s2"]
    assert [event.service for event in journal.last(2)] == ["s3", "s4"]
    assert journal.since(journal.next) == []


def test_who_went_on_from_a_time_that_never_was_is_told_everything() -> None:
    journal = Journal(lambda: NOW)
    journal.add(Kind.SYNCED)
    assert len(journal.since(journal.next + 10)) == 1


def test_only_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    journal = Journal(lambda: NOW)
    began = journal.next
    for number in range(5):
        journal.add(Kind.DOWN, f"s{number}")
    assert [event.id - began for event in journal.since(0)] == [2, 3, 4]
    assert [event.id - began for event in journal.since(began + 3)] == [3, 4]


def test_ids_go_on_rising_in_the_journal_of_the_next_control() -> None:
    before = Journal(lambda: NOW)
    for _ in range(500):
        before.add(Kind.UP)
    assert Journal(lambda: NOW + 1).next > before.next


def test_a_talkative_reason_is_cut() -> None:
    journal = Journal(lambda: NOW)
    journal.add(Kind.DOWN, "a", "x" * 10_000)
    assert len(journal.since(0)[0].reason) == module.MAX_REASON


async def test_who_waits_is_woken_by_the_next_event_and_by_the_end_of_its_patience() -> None:
    journal = Journal(lambda: NOW)
    await journal.wait(journal.next, 0.01)
    waiting = asyncio.create_task(journal.wait(journal.next, 20))
    await asyncio.sleep(0)
    journal.add(Kind.UP)
    await asyncio.wait_for(waiting, 10)
    await journal.wait(journal.next - 1, 20)  # it has happened already


def test_every_kind_has_a_meaning() -> None:
    assert MEANINGS.keys() == set(Kind)


# what the roster tells


class Told:
    """A roster, and what it told: kind, service, reason."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.roster = Roster(["static", "registry"], 3, GRACE, lambda *_: None, self._tell)

    def _tell(self, kind: Kind, service: str, reason: str) -> None:
        self.told.append((kind.value, service, reason))

    def static(self, *records: Record) -> None:
        self.roster.replace("static", records, (), 0.0)

    def registry(self, *records: Record, now: float = 0.0) -> None:
        self.roster.replace("registry", records, (), now)

    @property
    def kinds(self) -> list[str]:
        return [f"{kind} {service}".strip() for kind, service, _ in self.told]

    def since(self, act: Callable[[], Any]) -> list[tuple[str, str, str]]:
        """What an act led to."""
        before = len(self.told)
        act()
        return self.told[before:]


def test_joins_and_leaves_say_where_from_and_why() -> None:
    play = Told()
    play.static(record("a"))
    play.registry(record("b", 8001), with_babysitter("c", port=8002))
    assert play.told == [
        ("joined", "a", "in the static file, at http://127.0.0.1:8000"),
        ("joined", "b", "in the registry, at http://127.0.0.1:8001"),
        ("joined", "c", "in the registry, at http://127.0.0.1:8002"),
    ]
    assert play.since(play.static) == [("left", "a", "no longer in the static file")]
    assert play.since(lambda: play.roster.delete("c", 1.0)) == [
        ("left", "c", "it was taken back, as a babysitter does that stops or whose engine ended")
    ]
    assert play.since(lambda: play.roster.put(record("b", 9001), 1.0)) == [
        ("left", "b", "another place is told for it"),
        ("joined", "b", "in the registry, at http://127.0.0.1:9001"),
    ]
    bad = Rejected("b", "registry", "`port` must be an integer")
    assert play.since(lambda: play.roster.reject(bad, 1.0)) == [
        ("rejected", "b", "`port` must be an integer"),
        ("left", "b", "it was registered anew in a way that cannot be used"),
    ]


def test_a_service_that_falls_silent_is_missing_first_and_leaves_when_the_grace_period_is_over() -> None:
    play = Told()
    play.registry(record("a"), record("b", 8001))
    told = play.since(lambda: play.registry(record("b", 8001), now=1.0))
    assert told == [("missing", "a", "the registry does not list it; it stays for 60 s")]
    assert play.since(lambda: play.registry(record("b", 8001), now=2.0)) == [], "told once"
    assert play.since(lambda: play.registry(record("a"), record("b", 8001), now=3.0)) == [("found", "a", "")]
    told = play.since(lambda: play.roster.lose("b", 4.0))
    assert told == [("missing", "b", "its heartbeats at the registry ended; it stays for 60 s")]
    assert play.since(lambda: play.roster.lose("b", 5.0)) == []
    assert play.since(lambda: play.roster.put(record("b", 8001), 6.0)) == [("found", "b", "")]
    play.roster.lose("b", 7.0)
    assert play.since(lambda: play.roster.expire(7.0 + GRACE)) == [
        ("left", "b", "the registry did not know it for 60 s")
    ]


def test_health_that_changes_is_told_with_the_reason_and_what_stays_is_not() -> None:
    play = Told()
    play.static(record("a"))
    entry = play.roster.entries["a"]
    failed, passed = ProbeFailed("connection refused"), ProbePassed()

    def handles(*events: Any) -> list[tuple[str, str, str]]:
        before = len(play.told)
        for event in events:
            play.roster.handle(entry, event, 0.0)
        return play.told[before:]

    assert handles(failed, failed) == [("down", "a", "connection refused")]
    assert handles(passed, passed, failed, failed) == [("up", "a", "")]
    assert handles(Ejected(-1.0), passed) == [("returned", "a", "")]
    told = play.since(lambda: play.static(record("a", status="draining")))
    assert told == [("draining", "a", "draining: it finishes what it has")]
    assert play.since(lambda: play.static(record("a")))[0][:2] == ("resumed", "a")
    told = play.since(lambda: play.static(record("a", status="paused")))
    assert told == [("withdrawn", "a", "registered with status 'paused'")]


def test_a_source_that_cannot_be_used_is_told_once_and_once_when_it_can() -> None:
    play = Told()
    report = play.roster.report
    assert play.since(lambda: report("registry", "no answer")) == [("source_lost", "", "registry: no answer")]
    assert play.since(lambda: report("registry", "no answer at all")) == []
    assert play.since(lambda: report("registry", "")) == [("source_back", "", "registry")]
    assert play.since(lambda: report("registry", "")) == []
    report("static", "is not JSON")
    assert play.since(play.static) == [("source_back", "", "static")], "a file that was mended"


# a whole control


async def events(running: House) -> list[dict[str, Any]]:
    _, answer = await running.get("/events")
    return list(answer["events"])


async def kinds(running: House) -> list[str]:
    return [f"{event['kind']} {event['service']}".strip() for event in await events(running)]


async def test_control_tells_in_order_what_happened(short_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    async with scripted(health=(200, {})) as one:
        write_static(file, static("one", one.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=str(file), health_interval=0.2) as running:
            await running.until_healthy("one")
            async with running.worker(index=3) as wire:
                await wire.until_up("one")
                told = await kinds(running)
                assert told[:2] == ["control_started", "joined one"]
                assert sorted(told[2:]) == ["synced", "up one", "worker_started"], "at about the same time"
                assert "worker 3" in {event["reason"] for event in await events(running)}
                wire.epoch = 2
                wire.report()
                await until(lambda: has(running, "worker_restarted"), "another process in its place")
                one.answers["/health"] = (503, {})
                await until(lambda: has(running, "down one"), "a service that is down")
                assert (await events(running))[-1]["reason"] == "/health answered 503 Service Unavailable"
                running.shared.ejected_until[0] = 0.0
                write_static(file)
                await until(lambda: has(running, "left one"), "a service that is gone")


async def has(running: House, kind: str) -> bool:
    return kind in await kinds(running)


async def test_an_ejection_is_told_once_with_how_long_it_lasts(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=file) as running, running.worker() as wire:
            await wire.until_up("one")
            assert wire.fleet is not None
            (service,) = wire.fleet.services
            running.shared.ejected_until[service.slot] = time.monotonic() + 30
            wire.report(failed=(service,))
            wire.report(failed=(service,))
            await until(lambda: has(running, "ejected one"), "an ejection")
            (told,) = [event for event in await events(running) if event["kind"] == "ejected"]
            assert told["reason"] == "too many of its requests failed; for 30 s"


async def test_a_drain_is_told_and_its_end_too(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one:
        file = tmp_path / "s.json"
        write_static(file, static("one", one.port))
        async with house(short_dir, static_services=str(file)) as running, running.worker() as wire:
            await wire.until_up("one")
            wire.report()
            write_static(file, static("one", one.port, status="draining"))
            await wire.until_up()
            wire.report()
            await until(lambda: has(running, "drained one"), "the end of a drain")
            assert (await kinds(running))[-2:] == ["draining one", "drained one"]
            write_static(file)
            await until(lambda: has(running, "left one"), "a service that is gone")
            assert (await kinds(running)).count("drained one") == 1


async def test_an_engine_that_its_babysitter_started_again_is_told(
    short_dir: Path, tmp_path: Path, ports: Ports
) -> None:
    port, file = ports.pair(), tmp_path / "s.json"
    looked_after = static("one", port, metadata={"babysitter": "enhanced", "models": ["m"]})
    async with scripted(health=(200, {})) as engine, scripted(info=(200, {"restart_count": 2})) as sitter:
        await engine.close()
        await engine.listen(port)
        await sitter.close()
        await sitter.listen(port + 1)
        write_static(file, looked_after)
        async with house(short_dir, static_services=str(file)) as running:
            await until(lambda: "GET /info" in sitter.asked, "a babysitter that is asked")
            for count in (2, 3):
                sitter.answers["/info"] = (200, {"restart_count": count})
                asked = len(sitter.asked)
                write_static(file)
                await until(lambda: gone(running), "a service that left")
                write_static(file, looked_after)
                await until(partial(is_longer, sitter.asked, asked), "the babysitter is asked again")
            await until(lambda: has(running, "engine_restarted one"), "a restart")
            told = [event for event in await events(running) if event["kind"] == "engine_restarted"]
            assert [event["reason"] for event in told] == ["by its babysitter: restart 3"]


def is_longer(asked: list[str], than: int) -> bool:
    return len(asked) > than


async def gone(running: House) -> bool:
    return not await running.names()


@pytest.mark.parametrize("query", ["since=x", "since=-1", "limit=1e3", "since=1" + "0" * 30])
async def test_a_number_that_is_none_is_refused(short_dir: Path, tmp_path: Path, query: str) -> None:
    async with house(short_dir, static_services=write_static(tmp_path / "s.json")) as running:
        status, answer = await running.get(f"/events?{query}")
        assert status == 400
        assert "must be a number" in answer["error"]["message"]


async def test_events_are_asked_for_again_from_where_one_was(short_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    async with house(short_dir, static_services=write_static(file)) as running:
        await until(lambda: has(running, "synced"), "a file that was read")
        _, first = await running.get("/events")
        _, again = await running.get(f"/events?since={first['next']}")
        assert again == {"events": [], "next": first["next"]}
        write_static(file, static("one", 9))
        await until(lambda: has(running, "joined one"), "a service")
        _, again = await running.get(f"/events?since={first['next']}&limit=1")
        assert [event["kind"] for event in again["events"]] == ["joined"]
        assert again["next"] == first["next"] + 1


async def test_who_accepts_a_stream_gets_what_there_is_and_what_comes_and_goes_on_after_what_it_had(
    short_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "s.json"
    async with house(short_dir, static_services=write_static(file)) as running:
        await until(lambda: has(running, "synced"), "a file that was read")
        headers = {"accept": "text/event-stream"}
        async with running.session.get("http://router/events", headers=headers) as stream:
            assert stream.headers["cache-control"] == "no-store"
            assert await next_id(stream) == (await events(running))[0]["id"]
            write_static(file, static("one", 9))
            last = 0
            while '"joined"' not in (line := (await stream.content.readline()).decode()):
                last = int(line[4:]) if line.startswith("id: ") else last
        async with running.session.get(
            "http://router/events", headers=headers | {"last-event-id": str(last)}
        ) as stream:
            assert await next_id(stream) == last + 1


async def next_id(stream: Any) -> int:
    while not (line := await stream.content.readline()).startswith(b"id: "):
        assert line
    return int(line[4:])
