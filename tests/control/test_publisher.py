"""Fleets to the workers: whole, newest only, nobody waits for a slow one, nobody loses a better one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from enginehouse.control import publisher as publisher_module
from enginehouse.control.publisher import MAX_REPORT, Publisher
from enginehouse.core.fleet import Fleet, Report, Service, ServiceCount
from tests.contract.foreign_registry import ForeignRegistry
from tests.control.rig import DEADLINE, Wire, connect, engine, house, scripted, static, until, write_static
from tests.ports import Ports
from tests.registry.running import service


def fleet(version: int, *, synced: bool = True, services: tuple[Service, ...] = ()) -> Fleet:
    return Fleet(version=version, synced=synced, services=services)


def one_service(name: str = "a", models: tuple[str, ...] = ()) -> Service:
    return Service(name=name, slot=1, generation=1, host="h", addresses=("127.0.0.1",), port=1, models=models)


class Serving:
    """A publisher on a socket, without the rest of control."""

    def __init__(self, path: Path) -> None:
        self.reports: list[Report] = []
        self.publisher = Publisher(self.reports.append)
        self.path = path

    async def worker(self, index: int = 0, has: int | None = 0) -> Wire:
        wire = await connect(self.path, index)
        if has is not None:
            wire.report(fleet_version=has)
        return wire


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Serving]:
    path = directory / "wire"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    made = Serving(path)
    task = asyncio.create_task(made.publisher.serve(listener))
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


# what is sent


async def test_a_worker_that_connects_is_sent_the_whole_fleet_and_then_every_newer_one(short_dir: Path) -> None:
    async with serving(short_dir) as made:
        made.publisher.publish(fleet(10, services=(one_service(),)), settled=True)
        worker = await made.worker()
        assert (await worker.next()).services == (one_service(),)
        made.publisher.publish(fleet(11), settled=True)
        assert (await worker.next()).version == 11
        worker.writer.close()


async def test_a_fleet_that_was_sent_is_not_sent_again(short_dir: Path) -> None:
    async with serving(short_dir) as made:
        made.publisher.publish(fleet(10), settled=False)
        worker = await made.worker()
        await worker.next()
        made.publisher.publish(fleet(10), settled=True)
        assert await worker.silent(0.2)
        worker.writer.close()


async def test_a_slow_worker_delays_nobody_and_is_sent_the_newest_fleet_only(short_dir: Path) -> None:
    large = tuple(one_service(f"e{n}", tuple(f"model-{n}-{m}" for m in range(100))) for n in range(400))
    async with serving(short_dir) as made:
        slow, quick = await made.worker(0), await made.worker(1)
        for version in range(1, 60):
            made.publisher.publish(fleet(version, services=large), settled=True)
            while quick.fleet is None or quick.fleet.version < version:
                await quick.next()
        received = 0
        while slow.fleet is None or slow.fleet.version < 59:
            await slow.next()
            received += 1
        assert received < 30, "most of the old ones were never sent"
        slow.writer.close()
        quick.writer.close()


async def test_a_worker_that_reads_nothing_at_all_is_cut_off_and_may_come_back(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "SEND_DEADLINE", 0.1)
    large = tuple(one_service(f"e{n}", tuple(f"model-{n}-{m}" for m in range(100))) for n in range(1000))
    async with serving(short_dir) as made:
        stopped = await made.worker()
        stopped.reader._transport.pause_reading()  # type: ignore[attr-defined]
        made.publisher.publish(fleet(1, services=large), settled=True)

        async def is_cut_off() -> bool:
            return made.publisher.workers == [] and made.reports != []

        await until(is_cut_off, "the end of the connection")
        stopped.writer.transport.abort()
        again = await made.worker()
        assert len((await again.next()).services) == 1000
        again.writer.close()


async def test_many_changes_in_a_moment_make_few_fleets(short_dir: Path, tmp_path: Path) -> None:
    async with engine(models=("m",)) as one:
        file = write_static(tmp_path / "s.json", *[static(f"e{n}", one.port) for n in range(100)])
        async with house(short_dir, static_services=file) as running, running.worker() as worker:
            fleets = 0
            while worker.fleet is None or not all(service.up for service in worker.fleet.services):
                await worker.next()
                fleets += 1
            assert len(worker.fleet.services) == 100
            assert fleets < 50


# what comes in


async def test_reports_are_passed_on_in_order_however_the_bytes_are_cut(short_dir: Path) -> None:
    async with serving(short_dir) as made:
        worker = await made.worker(3, has=None)
        for version in range(1, 6):
            worker.report(fleet_version=version)
        worker.report(fleet_version=6)

        async def are_there() -> bool:
            return len(made.reports) == 6

        await until(are_there, "all reports")
        assert [report.fleet_version for report in made.reports] == [1, 2, 3, 4, 5, 6]
        assert made.publisher.workers == [(3, 6)]
        worker.writer.close()


async def test_a_worker_that_talks_nonsense_is_cut_off_and_others_are_not(short_dir: Path) -> None:
    async with serving(short_dir) as made:
        good = await made.worker(1)
        for nonsense in (
            b"\xff\xff\xff\xff",
            b"\x03\x00\x00\x00abc",
            (MAX_REPORT + 1000).to_bytes(4, "little") + b"x" * (MAX_REPORT + 100),
        ):
            bad = await made.worker(0, has=None)
            bad.writer.write(nonsense)
            async with asyncio.timeout(DEADLINE):
                assert await bad.reader.read() == b""
            bad.writer.close()
        made.publisher.publish(fleet(1), settled=True)
        assert (await good.next()).version == 1
        good.writer.close()


# who is sent what, and when


def test_a_worker_without_a_fleet_is_sent_one_as_soon_as_every_source_has_answered() -> None:
    made = Publisher(lambda _: None)
    assert made.newest_for(0) is None
    made.publish(fleet(100, synced=False), settled=False)
    assert made.newest_for(0) is None
    made.publish(fleet(101), settled=False)
    assert made.newest_for(0) is not None
    assert made.newest_for(101) is not None, "it is this control's fleet that it has"


def test_a_worker_with_an_earlier_controls_fleet_keeps_it_until_every_service_was_looked_at() -> None:
    made = Publisher(lambda _: None)
    made.publish(fleet(100), settled=False)
    assert made.newest_for(99) is None
    assert made.newest_for(None) is None, "it may have one; it has not said"
    made.publish(fleet(101), settled=True)
    assert made.newest_for(99) is not None
    assert made.newest_for(None) is not None


async def test_a_control_that_is_restarted_does_not_take_services_away_while_it_learns_them_again(
    short_dir: Path, tmp_path: Path
) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=file) as running:
            async with running.worker() as worker:
                before = await worker.until_up("one")
            await running.end()
            running.start()
            async with running.worker(fleet_version=before.version) as worker:
                after = await worker.next()
            assert after.version > before.version
            assert after.services == before.services, "slot and generation are the same, too"


async def test_a_control_restarted_while_its_registry_is_away_leaves_the_workers_the_fleet_they_have(
    short_dir: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "PATIENCE", 0.3)
    async with engine() as one:
        port = ports.one()
        with ForeignRegistry(port) as registry:
            registry.register(service("one", one.port, metadata={"type": "openai-api"}))
            async with house(short_dir, registry_url=registry.url) as running:
                async with running.worker() as worker:
                    before = await worker.until_up("one")
                await running.end()
                registry.close()
                running.start()
                async with running.worker(0, before.version) as old, running.worker(1) as new:
                    unsynced = await new.next()
                    assert (unsynced.synced, unsynced.services) == (False, ())
                    assert await old.silent(0.5)
                    with ForeignRegistry(port) as again:
                        again.register(service("one", one.port, metadata={"type": "openai-api"}))
                        assert (await old.next()).services == before.services
                        await new.until_up("one")


async def test_counts_and_failures_reach_a_restarted_control_under_the_same_numbers(
    short_dir: Path, tmp_path: Path
) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file) as running:
            async with running.worker() as worker:
                known = (await worker.until_up("one")).services[0]
            await running.end()
            running.start()
            async with running.worker() as worker:
                worker.report(counts=(ServiceCount(known.slot, known.generation, 41, 1, 8.0, 40),))

                async def is_counted() -> bool:
                    shown = await running.service("one")
                    return shown is not None and shown["request_count"] == 41

                await until(is_counted, "the counts of before")


def test_a_fleet_survives_its_own_encoding_with_everything_in_it() -> None:
    whole = fleet(1, services=(one_service("a", ("m", "n")),))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=Fleet) == whole
