"""The feed of changes, over real sockets, and its bounded history."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from enginehouse.registry import feed, server
from tests.registry.running import running, service

WAIT = 20.0


class Follower:
    """Reads server-sent events by hand."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> dict[str, str]:
        """The next event or comment, as its fields."""
        async with asyncio.timeout(WAIT):
            text = (await self.response.content.readuntil(b"\n\n")).decode()
        return {field: value for field, _, value in (line.partition(": ") for line in text.strip().split("\n"))}

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next event: its kind and data. Comments are passed over."""
        while "event" not in (block := await self.block()):
            pass
        data = json.loads(block["data"])
        assert block["id"] == f"{data['epoch']}:{data['revision']}"
        return block["event"], data


@asynccontextmanager
async def follow(
    session: aiohttp.ClientSession, query: str = "watch=0", headers: dict[str, str] | None = None
) -> AsyncIterator[Follower]:
    async with session.get(f"/services?{query}", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Follower(response)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with running() as url, aiohttp.ClientSession(url) as session:
        yield session


async def post(session: aiohttp.ClientSession, name: str = "e", **fields: Any) -> dict[str, Any]:
    async with session.post("/services", json=service(name, **fields)) as answer:
        assert answer.status == 201
        return dict(await answer.json())


async def delete(session: aiohttp.ClientSession, name: str = "e") -> None:
    async with session.delete(f"/services/{name}") as answer:
        assert answer.status == 200


async def test_a_new_follower_gets_a_snapshot_and_then_every_change_as_it_happens(
    session: aiohttp.ClientSession,
) -> None:
    """Defect: New services are invisible until the next poll."""
    shown = (await post(session, "a"))["service"]
    async with follow(session) as follower:
        kind, data = await follower.event()
        assert (kind, data["revision"]) == ("snapshot", 1)
        assert [listed | {"last_heartbeat": 0} for listed in data["services"]] == [shown | {"last_heartbeat": 0}]
        epoch = data["epoch"]
        shown = (await post(session, "b", weight=4))["service"]
        assert await follower.event() == ("put", {"epoch": epoch, "revision": 2, "service": shown})
        await delete(session, "a")
        gone = {"epoch": epoch, "revision": 3, "name": "a", "reason": "unregistered"}
        assert await follower.event() == ("delete", gone)


async def test_heartbeats_are_not_pushed(session: aiohttp.ClientSession) -> None:
    await post(session, "a")
    async with follow(session) as follower:
        await follower.event()
        async with session.post("/services/a/heartbeat") as answer:
            assert answer.status == 200
        await post(session, "b")
        kind, data = await follower.event()
        assert (kind, data["service"]["name"]) == ("put", "b")


async def test_expiry_is_pushed_as_a_delete_that_says_so() -> None:
    quick = running(remove_after=0.2, cleanup_interval=0.1)
    async with quick as url, aiohttp.ClientSession(url) as session, follow(session) as follower:
        await follower.event()
        await post(session, "silent")
        assert (await follower.event())[0] == "put"
        kind, data = await follower.event()
        assert (kind, data["name"], data["reason"]) == ("delete", "silent", "expired")


async def test_a_follower_that_comes_back_goes_on_where_it_was(session: aiohttp.ClientSession) -> None:
    await post(session, "a")
    async with follow(session) as follower:
        _, first = await follower.event()
    await post(session, "b")
    await post(session, "c")
    place = f"watch={first['revision']}&epoch={first['epoch']}"
    async with follow(session, place) as follower:
        names = [(await follower.event())[1]["service"]["name"] for _ in range(2)]
        assert names == ["b", "c"]
    last_event = {"last-event-id": f"{first['epoch']}:2"}
    async with follow(session, "watch=0", last_event) as follower:
        assert (await follower.event())[1]["service"]["name"] == "c"


async def test_a_follower_that_is_up_to_date_is_told_nothing_but_signs_of_life(session: aiohttp.ClientSession) -> None:
    await post(session, "a")
    async with follow(session) as follower:
        _, first = await follower.event()
    async with follow(session, f"watch=1&epoch={first['epoch']}") as follower:
        assert list(await follower.block()) == [""]
        await post(session, "b")
        assert (await follower.event())[0] == "put"


@pytest.mark.parametrize("place", ["watch=1&epoch=another", "watch=99&epoch={}", "watch=1"])
async def test_a_place_that_cannot_be_continued_is_answered_by_reset_and_snapshot(
    session: aiohttp.ClientSession, place: str
) -> None:
    await post(session, "a")
    async with follow(session) as follower:
        _, first = await follower.event()
    async with follow(session, place.format(first["epoch"])) as follower:
        assert (await follower.event())[0] == "reset"
        kind, data = await follower.event()
        assert (kind, len(data["services"])) == ("snapshot", 1)


async def test_a_place_older_than_the_history_is_answered_by_reset_and_snapshot(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HISTORY", 3)
    async with follow(session) as follower:
        _, first = await follower.event()
    for number in range(5):
        await post(session, f"e{number}")
    async with follow(session, f"watch=0&epoch={first['epoch']}") as follower:
        assert [(await follower.event())[0] for _ in range(2)] == ["reset", "snapshot"]
    async with follow(session, f"watch=2&epoch={first['epoch']}") as follower:
        assert [(await follower.event())[1]["revision"] for _ in range(3)] == [3, 4, 5]


async def test_a_quiet_feed_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "KEEPALIVE", 0.05)
    async with running() as url, aiohttp.ClientSession(url) as session, follow(session) as follower:
        assert (await follower.event())[0] == "snapshot"
        for _ in range(3):
            assert await follower.block() == {"": "alive"}


async def test_a_follower_that_does_not_read_costs_a_bounded_history_and_starts_anew_when_it_reads(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HISTORY_BYTES", 1_000_000)
    async with follow(session) as follower:
        await follower.event()
        # Far more than the sockets of both sides hold: 100 MB of changes.
        big = {"k": "x" * 250_000}
        for number in range(400):
            await post(session, "big", metadata=big | {"n": number})
        revisions: list[int] = []
        kinds: list[str] = []
        while not revisions or revisions[-1] < 401:
            if revisions and revisions[-1] == 400:
                await post(session, "end")
            kind, data = await follower.event()
            kinds.append(kind)
            revisions.append(data["revision"])
        assert "reset" in kinds
        assert kinds[kinds.index("reset") + 1] == "snapshot"
        assert revisions == sorted(revisions)
        assert len(revisions) < 400, "it was not given everything"


async def test_a_follower_that_never_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READING_DEADLINE", 0.3)
    async with running() as url, aiohttp.ClientSession(url) as session:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(b"GET /services?watch=0 HTTP/1.1\r\nhost: x\r\n\r\n")
        await post(session, "a", metadata={"k": "x" * 250_000})
        async with asyncio.timeout(WAIT):
            for number in range(200):
                await post(session, "a", metadata={"k": "x" * 250_000, "n": number})
            await asyncio.sleep(1)  # reads nothing for longer than the deadline
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(100_000_000)
        writer.close()


async def test_the_number_of_followers_is_bounded_and_a_place_is_free_again_when_one_leaves() -> None:
    async with running(max_watchers=1) as url, aiohttp.ClientSession(url) as session:
        async with follow(session) as follower:
            await follower.event()
            async with session.get("/services?watch=0") as answer:
                assert answer.status == 503
                assert (await answer.json())["error"]["code"] == "too_many_watchers"
        async with asyncio.timeout(WAIT):
            while True:
                async with session.get("/services?watch=0") as answer:
                    if answer.status == 200:
                        break
