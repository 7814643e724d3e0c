"""Following a registry: ours by its feed, a foreign one by polling; outages, gaps and bad records."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from enginehouse.control.discovery import Discovery
from enginehouse.control.roster import Roster
from enginehouse.core.record import parse_record
from enginehouse.registry.client import RegistryClient
from tests.contract.foreign_registry import ForeignRegistry
from tests.control.rig import engine, house, scripted, static, until, write_static
from tests.ports import Ports
from tests.registry.running import RegistryProcess, running, service

NEVER = 3600.0
SITTER = {"type": "openai-api", "babysitter": "enhanced"}


def of_engine(name: str, port: int, **metadata: Any) -> dict[str, Any]:
    return service(name, port, metadata=SITTER | metadata)


class Babysitter:
    """Registers and unregisters, as a babysitter does."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession()
        self.client = RegistryClient(url, "", self._session)

    async def __aenter__(self) -> RegistryClient:
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def register(client: RegistryClient, record: dict[str, Any]) -> str:
    return await client.register(parse_record(record))


# with a registry of ours


async def test_new_services_are_invisible_until_the_next_poll__one_that_registers_is_pushed_to_the_workers(
    short_dir: Path,
) -> None:
    """Defect: New services are invisible until the next poll."""
    async with (
        engine(models=("m",)) as one,
        running() as url,
        Babysitter(url) as babysitter,
        house(short_dir, registry_url=url, registry_sync_interval=NEVER) as router,
        router.worker() as worker,
    ):
        assert (await worker.next()).services == ()
        await register(babysitter, of_engine("one", one.port))
        fleet = await worker.until_up("one")
        assert fleet.synced


async def test_a_service_its_babysitter_takes_back_is_gone_at_once(short_dir: Path) -> None:
    async with (
        engine() as one,
        running() as url,
        Babysitter(url) as babysitter,
        house(short_dir, registry_url=url) as router,
        router.worker() as worker,
    ):
        lease = await register(babysitter, of_engine("one", one.port))
        await worker.until_up("one")
        await babysitter.unregister("one", lease)
        fleet = await worker.until(lambda fleet: not fleet.services)
        assert fleet.synced
        lease = await register(babysitter, of_engine("one", one.port))
        await worker.until_up("one")


async def test_a_babysitter_that_registers_itself_is_no_service_of_the_router(short_dir: Path) -> None:
    async with (
        engine() as one,
        running() as url,
        Babysitter(url) as babysitter,
        house(short_dir, registry_url=url + "/services/") as router,
        router.worker() as worker,
    ):
        await register(babysitter, service("one", one.port + 1, metadata={"type": "babysitter"}))
        await register(babysitter, of_engine("one-server", one.port))
        fleet = await worker.until_up("one-server")
        assert [service.name for service in fleet.services] == ["one-server"]
        assert await router.names() == {"one-server"}


async def test_a_registry_that_is_killed_and_comes_back_empty_loses_no_service(short_dir: Path, ports: Ports) -> None:
    port = ports.one()
    async with engine() as one:
        with RegistryProcess(port=port) as registry:
            async with Babysitter(registry.url) as babysitter:
                await register(babysitter, of_engine("one", one.port))
            async with house(short_dir, registry_url=registry.url) as router, router.worker() as worker:
                await worker.until_up("one")
                registry.kill()

                async def is_told() -> bool:
                    return any("cannot be reached" in item["reason"] for item in await router.rejected())

                await until(is_told, "the outage to be reported")
                assert await router.healthy() == {"one"}
                with RegistryProcess(port=port) as again:

                    async def is_missed() -> bool:
                        return (await router.details("one"))["missing_for"] is not None

                    await until(is_missed, "the empty registry to be read")
                    assert await router.healthy() == {"one"}
                    async with Babysitter(again.url) as babysitter:
                        await register(babysitter, of_engine("one", one.port))

                    async def is_back() -> bool:
                        return (await router.details("one"))["missing_for"] is None

                    await until(is_back, "the service in the registry again")
                    assert await router.rejected() == []
                assert await worker.silent(0.2), "the workers noticed nothing"


async def test_a_registry_with_a_journal_that_is_killed_and_restarted_goes_on_where_it_was(
    short_dir: Path, tmp_path: Path, ports: Ports
) -> None:
    port, journal = ports.one(), str(tmp_path / "journal.db")
    async with engine() as one, engine() as two:
        with RegistryProcess(port=port, journal=journal) as registry:
            async with Babysitter(registry.url) as babysitter:
                await register(babysitter, of_engine("one", one.port))
            async with house(short_dir, registry_url=registry.url) as router, router.worker() as worker:
                await worker.until_up("one")
                registry.kill()
                with RegistryProcess(port=port, journal=journal) as again:
                    async with Babysitter(again.url) as babysitter:
                        await register(babysitter, of_engine("two", two.port))
                    await worker.until_up("one", "two")
                    assert (await router.details("one"))["missing_for"] is None


# with a registry of somebody else


async def test_a_registry_without_a_feed_is_polled(short_dir: Path) -> None:
    async with engine() as one, engine() as two:
        with ForeignRegistry() as registry:
            registry.register(of_engine("one", one.port))
            async with house(short_dir, registry_url=registry.url) as router, router.worker() as worker:
                await worker.until_up("one")
                registry.register(of_engine("two", two.port))
                await worker.until_up("one", "two")


async def test_a_service_missing_from_a_foreign_registry_goes_after_the_grace_period(short_dir: Path) -> None:
    async with engine() as one:
        with ForeignRegistry() as registry:
            registry.register(of_engine("one", one.port))
            settings: dict[str, Any] = {"registry_url": registry.url, "service_removal_grace_period": 1.0}
            async with house(short_dir, **settings) as router, router.worker() as worker:
                await worker.until_up("one")
                registry.services.clear()

                async def is_missed() -> bool:
                    return (await router.details("one"))["missing_for"] is not None

                await until(is_missed, "its absence")
                assert await router.healthy() == {"one"}
                await worker.until(lambda fleet: not fleet.services)


async def test_a_foreign_registry_that_stops_and_starts_again_is_found_again_and_loses_nobody(
    short_dir: Path,
) -> None:
    def listing(*services: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"services": services, "total": len(services)}

    async with engine() as one, engine() as two, scripted() as registry:
        registry.answers["/services"] = listing(of_engine("one", one.port))
        url = f"http://127.0.0.1:{registry.port}"
        async with house(short_dir, registry_url=url) as router, router.worker() as worker:
            await worker.until_up("one")
            await registry.close()
            await until(router.rejected, "the outage to be reported")
            registry.answers["/services"] = listing(of_engine("two", two.port))
            await registry.listen()
            await worker.until_up("one", "two")
            assert await router.rejected() == []


async def test_records_of_a_foreign_registry_are_checked_and_bad_ones_listed_with_their_reason(
    short_dir: Path,
) -> None:
    async with engine() as one:
        with ForeignRegistry() as registry:
            registry.register(of_engine("one", one.port))
            registry.register(of_engine("metadata", 80, url="") | {"host": "169.254.169.254"})
            registry.register(of_engine("b/../d", 80))
            registry.register(of_engine("port", 80) | {"port": 123456})
            registry.services["odd"] = 7  # type: ignore[assignment]
            async with house(short_dir, registry_url=registry.url) as router, router.worker() as worker:
                await worker.until_up("one")
                rejected = {item["name"]: item["reason"] for item in await router.rejected()}
                assert rejected.keys() == {"metadata", "b/../d", "port", "(no name)"}
                assert "link-local" in rejected["metadata"]
                assert "`port`" in rejected["port"]


async def test_what_is_no_registry_at_all_is_reported_and_static_services_go_on(
    short_dir: Path, tmp_path: Path
) -> None:
    async with engine() as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        settings: dict[str, Any] = {"registry_url": f"http://127.0.0.1:{one.port}", "static_services": file}
        async with house(short_dir, **settings) as router, router.worker() as worker:
            fleet = await worker.until_up("one")
            assert fleet.synced is False

            async def is_told() -> bool:
                return any(item["source"] == "registry" for item in await router.rejected())

            await until(is_told, "the trouble")


async def test_a_name_in_both_sources_is_the_static_one(short_dir: Path, tmp_path: Path) -> None:
    async with engine() as one, engine() as two:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        with ForeignRegistry() as registry:
            registry.register(of_engine("one", two.port))
            registry.register(of_engine("two", two.port))
            settings: dict[str, Any] = {"registry_url": registry.url, "static_services": file}
            async with house(short_dir, **settings) as router, router.worker() as worker:
                fleet = await worker.until_up("one", "two")
                assert [service.port for service in fleet.services] == [one.port, two.port]
                assert [item["name"] for item in await router.rejected()] == ["one"]


# the feed itself, event by event


class NoFeed(Exception):
    """The registry has none."""


class Feed:
    """A feed that a test writes. Notes from where it was asked to go on."""

    def __init__(self, *connections: Callable[[], AsyncGenerator[Any, None]]) -> None:
        self.connections = list(connections)
        self.asked: list[tuple[str, int]] = []
        self.services: list[object] = []
        self.all_used = asyncio.Event()

    async def list(self) -> list[object]:
        return self.services

    async def watch(self, revision: int = 0, epoch: str = "") -> AsyncGenerator[Any, None]:
        self.asked.append((epoch, revision))
        if not self.connections:
            self.all_used.set()
            await asyncio.get_running_loop().create_future()
        async for event in self.connections.pop(0)():
            yield event


def connection(*events: object, error: Exception | None = None) -> Callable[[], AsyncGenerator[Any, None]]:
    async def play() -> AsyncGenerator[Any, None]:
        for event in events:
            yield event
        if error is not None:
            raise error

    return play


def snapshot(epoch: str, revision: int, *names: str) -> object:
    services = [of_engine(name, 80) for name in names]
    return SimpleNamespace(epoch=epoch, revision=revision, services=services)


def put(epoch: str, revision: int, name: str, /, **fields: Any) -> object:
    return SimpleNamespace(epoch=epoch, revision=revision, service=of_engine(name, 80) | fields)


def delete(epoch: str, revision: int, name: str, expired: bool = False) -> object:
    return SimpleNamespace(epoch=epoch, revision=revision, name=name, expired=expired)


def reset(epoch: str, revision: int) -> object:
    return SimpleNamespace(epoch=epoch, revision=revision)


async def followed(*connections: Callable[[], AsyncGenerator[Any, None]]) -> tuple[Roster, Feed]:
    """The roster after all these connections were followed to their end."""
    roster = Roster(["registry"], 3, 60.0, lambda *_: None)
    feed = Feed(*connections)
    discovery = Discovery(feed, NoFeed, roster, lambda: None, 0.05)
    task = asyncio.create_task(discovery.follow())
    async with asyncio.timeout(20.0):
        await feed.all_used.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return roster, feed


async def test_changes_are_followed_and_a_broken_feed_goes_on_where_it_broke() -> None:
    roster, feed = await followed(
        connection(snapshot("e", 5, "a", "b"), put("e", 6, "c"), error=RuntimeError("broke")),
        connection(delete("e", 7, "a")),
    )
    assert set(roster.entries) == {"b", "c"}
    assert feed.asked == [("", 0), ("e", 6), ("e", 7)]


async def test_a_gap_in_the_feed_leads_to_a_new_snapshot() -> None:
    roster, feed = await followed(
        connection(snapshot("e", 5, "a"), put("e", 7, "c")), connection(snapshot("e", 7, "a", "b", "c"))
    )
    assert set(roster.entries) == {"a", "b", "c"}
    assert feed.asked == [("", 0), ("", 0), ("e", 7)]


async def test_a_change_of_another_epoch_leads_to_a_new_snapshot() -> None:
    roster, feed = await followed(
        connection(snapshot("e", 5, "a"), delete("f", 6, "a")), connection(snapshot("f", 9, "a", "b"))
    )
    assert set(roster.entries) == {"a", "b"}
    assert feed.asked == [("", 0), ("", 0), ("f", 9)]


async def test_after_a_reset_the_snapshot_counts_and_what_it_lacks_stays_for_the_grace_period() -> None:
    roster, _ = await followed(connection(snapshot("e", 5, "a", "b"), reset("f", 1), snapshot("f", 1, "b")))
    assert set(roster.entries) == {"a", "b"}
    assert roster.missing_since(roster.entries["a"]) is not None
    assert roster.missing_since(roster.entries["b"]) is None


async def test_a_service_that_expired_at_the_registry_stays_for_the_grace_period() -> None:
    roster, _ = await followed(connection(snapshot("e", 5, "a"), delete("e", 6, "a", expired=True)))
    assert roster.missing_since(roster.entries["a"]) is not None


async def test_a_pushed_record_that_cannot_be_used_is_rejected_and_the_feed_goes_on() -> None:
    roster, feed = await followed(
        connection(snapshot("e", 5, "a"), put("e", 6, "a", port="x"), put("e", 7, "b", name=None), put("e", 8, "c"))
    )
    assert set(roster.entries) == {"c"}
    assert {item.name for item in roster.rejected} == {"a", "(no name)"}
    assert feed.asked == [("", 0), ("e", 8)]


async def test_a_registry_without_a_feed_is_polled_until_that_fails_then_its_feed_is_tried_again() -> None:
    class Polled(Feed):
        polls = 0

        async def list(self) -> list[object]:
            self.polls += 1
            if self.polls == 3:
                raise RuntimeError("away")
            return [of_engine("a", 80)]

    roster = Roster(["registry"], 3, 60.0, lambda *_: None)
    feed = Polled(connection(error=NoFeed()), connection(snapshot("e", 1, "a", "b")))
    task = asyncio.create_task(Discovery(feed, NoFeed, roster, lambda: None, 0.01).follow())
    async with asyncio.timeout(20.0):
        await feed.all_used.wait()
    task.cancel()
    assert set(roster.entries) == {"a", "b"}
    assert roster.rejected == []


async def test_trouble_with_a_registry_is_reported_for_as_long_as_it_lasts() -> None:
    roster = Roster(["registry"], 3, 60.0, lambda *_: None)
    reported: list[bool] = []

    class Away(Feed):
        async def list(self) -> list[object]:
            reported.append(bool(roster.rejected))
            if len(reported) < 4:
                raise RuntimeError("away")
            return []

        async def watch(self, revision: int = 0, epoch: str = "") -> AsyncGenerator[Any, None]:
            reported.append(bool(roster.rejected))
            async for event in super().watch(revision, epoch):
                yield event

    feed = Away(connection(error=RuntimeError("away")))
    task = asyncio.create_task(Discovery(feed, NoFeed, roster, lambda: None, 0.01).follow())
    async with asyncio.timeout(20.0):
        await feed.all_used.wait()
    task.cancel()
    assert reported == [False, True, True, True, False]
