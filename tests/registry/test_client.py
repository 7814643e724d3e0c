"""The client, against our registry, a foreign one, and peers that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import pytest
from aiohttp import web

from enginehouse.core.record import Record, parse_record
from enginehouse.machines.lease import (
    Accepted,
    Command,
    Event,
    Failed,
    Heartbeat,
    Lease,
    Offered,
    Register,
    State,
    Superseded,
    Woken,
)
from enginehouse.machines.lease import Unknown as UnknownThere
from enginehouse.registry.client import (
    Conflict,
    Delete,
    FeedEvent,
    FeedUnsupported,
    Put,
    Refused,
    RegistryClient,
    RegistryError,
    Reset,
    Snapshot,
    Unknown,
    Unreachable,
)
from enginehouse.registry.events import FeedBroken, FeedReader
from tests.contract.foreign_registry import ForeignRegistry
from tests.ports import Ports
from tests.registry.running import RegistryProcess, running, stub, until

WAIT = 20.0


def record(name: str = "e", **fields: object) -> Record:
    return parse_record({"name": name, "host": "127.0.0.1", "port": 8000} | fields)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(session: aiohttp.ClientSession) -> AsyncIterator[RegistryClient]:
    async with running() as url:
        yield RegistryClient(url, "", session)


async def soon(events: AsyncIterator[FeedEvent]) -> FeedEvent:
    async with asyncio.timeout(WAIT):
        return await anext(events)


@pytest.mark.parametrize("suffix", ["", "/", "/services", "/services/"])
async def test_the_url_may_have_a_trailing_services(session: aiohttp.ClientSession, suffix: str) -> None:
    async with running() as url:
        assert await RegistryClient(url + suffix, "", session).list() == ()


async def test_a_service_is_registered_confirmed_changed_listed_and_unregistered(client: RegistryClient) -> None:
    whole = record(weight=3, metadata={"type": "openai-api", "models": ["org/m"]})
    assert await client.register(whole, "L") == "L"
    await client.heartbeat("e", "L")
    await client.update("e", {"weight": 4}, "L")
    (listed,) = await client.list()
    assert parse_record(listed) == record(weight=4, metadata={"type": "openai-api", "models": ["org/m"]})
    await client.unregister("e", "L")
    assert await client.list() == ()


async def test_every_refusal_has_its_error(client: RegistryClient, session: aiohttp.ClientSession) -> None:
    with pytest.raises(Unknown, match="'e' not found"):
        await client.heartbeat("e")
    assert await client.register(record(), "L") == "L"
    for call in (client.heartbeat("e", "other"), client.unregister("e"), client.update("e", {}, "other")):
        with pytest.raises(Conflict, match="lease"):
            await call
    with pytest.raises(Refused, match="`weight`") as refused:
        await client.update("e", {"weight": 0}, "L")
    assert refused.value.status == 400
    async with running(token="secret") as url:
        with pytest.raises(Refused, match="bearer token") as refused:
            await RegistryClient(url, "wrong-one", session).register(record())
        assert refused.value.status == 401
        assert "wrong-one" not in str(refused.value)
        assert await RegistryClient(url, "secret", session).register(record(), "L") == "L"


async def test_a_registry_nobody_runs_is_unreachable(session: aiohttp.ClientSession, ports: Ports) -> None:
    client = RegistryClient(f"http://127.0.0.1:{ports.one()}", "", session)
    for call in (client.register(record()), client.heartbeat("e"), client.unregister("e"), client.list()):
        with pytest.raises(Unreachable):
            await call
    with pytest.raises(Unreachable):
        await soon(client.watch())


async def test_every_call_has_a_deadline(session: aiohttp.ClientSession) -> None:
    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(WAIT)
        return web.Response()

    async with stub(hangs) as port:
        client = RegistryClient(f"http://127.0.0.1:{port}", "", session, timeout=0.2, silence=0.2)
        for call in (client.register(record()), client.heartbeat("e"), client.unregister("e"), client.list()):
            with pytest.raises(Unreachable):
                await call
        with pytest.raises(Unreachable):
            await soon(client.watch())


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", Unreachable),
        (200, b"[]", Unreachable),
        (200, b'{"services": 5}', Unreachable),
        (200, b"[" * 50_000, Unreachable),
        (500, b'{"error": "broken"}', Unreachable),
        (503, b'{"error": {"message": "disk full"}}', Unreachable),
        (302, b"", Unreachable),
        (403, b"\xff", Refused),
        (404, b"nothing", Unknown),
    ],
)
async def test_answers_that_are_none_are_told_apart(
    session: aiohttp.ClientSession, status: int, body: bytes, error: type[RegistryError]
) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"location": "http://127.0.0.1:1/"})

    async with stub(handler) as port:
        with pytest.raises(error):
            await RegistryClient(f"http://127.0.0.1:{port}", "", session).list()


async def test_the_feed_is_followed_as_typed_events(client: RegistryClient) -> None:
    await client.register(record("a"), "L")
    async with aclosing(client.watch()) as events:
        snapshot = await soon(events)
        assert isinstance(snapshot, Snapshot)
        assert [parse_record(listed) for listed in snapshot.services] == [record("a")]
        await client.register(record("b", weight=9), "L")
        put = await soon(events)
        assert isinstance(put, Put)
        assert (put.epoch, put.revision, parse_record(put.service)) == (snapshot.epoch, 2, record("b", weight=9))
        await client.unregister("a", "L")
        assert await soon(events) == Delete(snapshot.epoch, 3, "a", expired=False)
    async with aclosing(client.watch(2, snapshot.epoch)) as events:
        assert await soon(events) == Delete(snapshot.epoch, 3, "a", expired=False)
    async with aclosing(client.watch(2, "another")) as events:
        assert await soon(events) == Reset(snapshot.epoch, 3)
        assert isinstance(await soon(events), Snapshot)


async def test_a_feed_ends_when_the_registry_stops_and_breaks_when_it_is_killed(
    session: aiohttp.ClientSession,
) -> None:
    with RegistryProcess() as registry:
        events = RegistryClient(registry.url, "", session).watch()
        assert isinstance(await soon(events), Snapshot)
        registry.stop()
        with pytest.raises(StopAsyncIteration):
            await soon(events)
    with RegistryProcess() as registry:
        events = RegistryClient(registry.url, "", session).watch()
        assert isinstance(await soon(events), Snapshot)
        registry.kill()
        with pytest.raises(Unreachable):
            await soon(events)


async def test_a_feed_without_signs_of_life_is_dead(session: aiohttp.ClientSession) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: snapshot\ndata: {"epoch": "x", "revision": 5, "services": []}\n\n')
        await asyncio.sleep(WAIT)
        return response

    async with stub(handler) as port:
        events = RegistryClient(f"http://127.0.0.1:{port}", "", session, silence=0.3).watch()
        assert await soon(events) == Snapshot("x", 5, ())
        with pytest.raises(Unreachable):
            await soon(events)


async def test_a_foreign_registry_without_feed_leases_and_weight_is_spoken_to_all_the_same(
    session: aiohttp.ClientSession,
) -> None:
    with ForeignRegistry() as foreign:
        client = RegistryClient(foreign.url + "/services", "", session)
        assert await client.register(record(weight=5, metadata={"models": ["m"]}), "L") == ""
        await client.heartbeat("e", "L", "draining")
        assert foreign.services["e"]["status"] == "draining"
        await client.update("e", {"metadata": {"models": ["n"]}}, "L")
        (listed,) = await client.list()
        assert parse_record(listed).metadata == {"models": ["n"]}
        assert parse_record(listed).weight == 1
        with pytest.raises(FeedUnsupported):
            await soon(client.watch())
        await client.unregister("e", "L")
        with pytest.raises(Unknown):
            await client.heartbeat("e", "L")


class Keeper:
    """Carries out what the registration machine commands, as a babysitter does."""

    def __init__(self, client: RegistryClient, record: Record, interval: float = 0.1) -> None:
        self.client, self.record = client, record
        self.machine = Lease(interval, rng=lambda: 0.0)

    async def run(self, lease: str) -> None:
        loop = asyncio.get_running_loop()
        commands = self.machine.handle(Offered(lease), loop.time())
        while self.machine.state is not State.SUPERSEDED:
            for command in commands:
                answer = await self.call(command)
                commands = self.machine.handle(answer, loop.time())
            if not commands and self.machine.wake_at is not None:
                await asyncio.sleep(self.machine.wake_at - loop.time())
                commands = self.machine.handle(Woken(), loop.time())

    async def call(self, command: Command) -> Event:
        try:
            if isinstance(command, Register):
                await self.client.register(self.record, command.lease)
            elif isinstance(command, Heartbeat):
                await self.client.heartbeat(self.record.name, command.lease)
            else:
                await self.client.unregister(self.record.name, command.lease)
        except Unknown:
            return UnknownThere()
        except Conflict:
            return Superseded()
        except RegistryError as error:
            return Failed(str(error))
        return Accepted()


async def listed_ports(client: RegistryClient) -> list[int]:
    return sorted(parse_record(listed).port for listed in await client.list())


async def test_a_new_instance_takes_over_and_the_old_one_stops_and_cannot_disturb_it(client: RegistryClient) -> None:
    """Defect: No incarnation: an old instance's DELETE removes its successor's record."""
    async with asyncio.timeout(WAIT):
        old, new = Keeper(client, record(port=1)), Keeper(client, record(port=2))
        old_runs = asyncio.create_task(old.run("old"))
        await until(lambda: listed_ports(client), lambda found: found == [1])
        new_runs = asyncio.create_task(new.run("new"))
        await old_runs
        assert old.machine.state is State.SUPERSEDED
        with pytest.raises(Conflict):
            await client.unregister("e", "old")
        assert await listed_ports(client) == [2]
        new_runs.cancel()


async def test_a_service_registers_itself_again_at_a_registry_that_lost_its_memory(
    session: aiohttp.ClientSession, ports: Ports
) -> None:
    """Defect: Memory only: after a restart a heartbeat gets 404, the service is lost until its babysitter restarts."""
    port = ports.one()
    client = RegistryClient(f"http://127.0.0.1:{port}", "", session)
    with RegistryProcess(port=port) as registry:
        keeper = asyncio.create_task(Keeper(client, record()).run("L"))
        await until(lambda: listed_ports(client), lambda found: found == [8000])
        registry.kill()
    with RegistryProcess(port=port):
        await until(lambda: listed_ports(client), lambda found: found == [8000])
    keeper.cancel()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_feed_reader_takes_bytes_in_pieces_of_any_size(size: int) -> None:
    stream = (
        b": following\n\n"
        b'id: x:1\nevent: snapshot\ndata: {"epoch":"x","revision":1,"services":[{"name":"a"}]}\n\n'
        b": alive\n\n"
        b'id: x:2\nevent: put\ndata: {"epoch":"x","revision":2,"service":{"name":"\\n\\n"}}\n\n'
        b'id: x:3\nevent: delete\ndata: {"epoch":"x","revision":3,"name":"a","reason":"expired"}\n\n'
        b'id: x:3\nevent: of a later version\ndata: {"epoch":"x","revision":3,"more":1}\n\n'
        b'id: x:3\nevent: reset\ndata: {"epoch":"x","revision":3}\n\n'
    )
    reader = FeedReader()
    events = [event for start in range(0, len(stream), size) for event in reader.feed(stream[start : start + size])]
    assert events == [
        Snapshot("x", 1, ({"name": "a"},)),
        Put("x", 2, {"name": "\n\n"}),
        Delete("x", 3, "a", expired=True),
        Reset("x", 3),
    ]


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"epoch": 1, "revision": 1}', b'{"revision": 1}', b"\xff", b"[" * 9999]
)
def test_a_feed_of_something_else_is_broken(data: bytes) -> None:
    with pytest.raises(FeedBroken):
        FeedReader().feed(b"event: put\ndata: " + data + b"\n\n")
