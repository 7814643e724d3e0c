"""The journal on a real disk: crashes, full disks, strange files. Processes of their own where a crash is needed."""

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from enginehouse.core.record import parse_record
from enginehouse.registry.journal import SCHEMA_VERSION, Journal, JournalError
from enginehouse.registry.leases import Entry
from tests.registry.running import RegistryProcess, service

KILLS = 100
CLIENTS = 4


def entry(name: str = "e", revision: int = 1) -> Entry:
    record = parse_record({"name": name, "host": "h", "port": 1, "metadata": {"ä": [1, None, "ü"]}})
    return Entry(record=record, lease="L", leased=True, revision=revision, registered=1.5, retired=("K",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(str(path))
    yield journal
    journal.close()


def test_what_was_committed_is_loaded_again_with_the_last_revision(journal: Journal) -> None:
    assert journal.load() == (0, [])
    journal.commit([("b", entry("b")), ("a", entry("a"))], 2)
    journal.commit([("b", None), ("c", None)], 3)
    journal.close()
    assert journal.load() == (3, [entry("a")])


def test_without_a_path_nothing_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal("")
    assert journal.load() == (0, [])
    journal.commit([("a", entry("a"))], 1)
    assert journal.load() == (1, [entry("a")])
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_commit_changes_nothing_and_the_next_one_works(journal: Journal) -> None:
    journal.load()
    journal.commit([("a", entry("a"))], 1)
    broken = sqlite3.connect(journal._path, timeout=0)  # stands for whatever keeps the file from being written
    journal.close()
    broken.execute("BEGIN EXCLUSIVE")
    with pytest.raises(JournalError, match=r"journal\.db"):
        journal.commit([("b", entry("b"))], 2)
    broken.close()
    journal.commit([("c", entry("c"))], 2)
    assert journal.load() == (2, [entry("a"), entry("c")])


def test_every_commit_waits_for_the_disk(journal: Journal) -> None:
    journal.load()
    assert journal._connection is not None
    assert journal._connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    assert journal._connection.execute("PRAGMA synchronous").fetchall() == [(2,)], "2 is FULL"


def test_two_registries_cannot_share_a_journal(journal: Journal, path: Path) -> None:
    journal.load()
    with pytest.raises(JournalError, match="another registry uses it"):
        Journal(str(path)).load()


def test_a_journal_of_another_schema_version_is_refused_and_left_alone(journal: Journal, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=f"schema version {SCHEMA_VERSION + 1}"):
        journal.load()
    assert path.read_bytes()[100:] == before[100:]


@pytest.mark.parametrize("content", [b"this is no database at all, not even a small one" * 100, b"\0" * 5000])
def test_a_damaged_file_is_named_and_not_overwritten(journal: Journal, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="move it away"):
        journal.load()
    assert path.read_bytes() == content


def test_a_registry_that_cannot_use_its_journal_says_so_and_ends(tmp_path: Path) -> None:
    with RegistryProcess(journal=str(tmp_path / "missing" / "journal.db")) as registry:
        assert registry.finish() == 1
        assert "missing/journal.db: unable to open" in registry.errors
        assert "Traceback" not in registry.errors


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_in_100_times_kill_9_right_after_an_acknowledgement(path: Path) -> None:
    expected: dict[str, int] = {}
    for round_number in range(KILLS):
        with RegistryProcess(journal=str(path)) as registry:
            async with aiohttp.ClientSession(registry.url) as session:
                found = await listed(session)
                assert expected.items() <= found.items(), f"lost after kill {round_number}"
                expected |= await acknowledged_until_killed(session, registry, round_number)
    with RegistryProcess(journal=str(path)) as registry:
        async with aiohttp.ClientSession(registry.url) as session:
            found = await listed(session)
            assert expected.items() <= found.items()
            assert len(expected) >= KILLS


async def listed(session: aiohttp.ClientSession) -> dict[str, int]:
    async with session.get("/services") as answer:
        return {service["name"]: service["port"] for service in (await answer.json())["services"]}


async def acknowledged_until_killed(
    session: aiohttp.ClientSession, registry: RegistryProcess, round_number: int
) -> dict[str, int]:
    """Clients register without a pause; the first acknowledgements are noted, then the process is killed at once."""
    noted: dict[str, int] = {}

    async def register(client: int) -> None:
        for number in range(1000):
            port = 1 + number
            name = f"r{round_number}-{client}-{number}"
            try:
                async with session.post("/services", json=service(name, port)) as answer:
                    assert answer.status == 201
                    noted[name] = port  # the status is the acknowledgement
            except (aiohttp.ClientError, OSError):
                return
            if client == 0 and number >= round_number % 4:
                registry.process.kill()
                return

    await asyncio.gather(*(register(client) for client in range(CLIENTS)))
    return noted


def limit_file_size(pid: int, size: int) -> None:
    """Real: a write beyond it fails with EFBIG, as one on a full disk does with ENOSPC."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def test_a_full_disk_is_a_503_and_not_a_lie_and_reads_and_heartbeats_go_on(path: Path) -> None:
    with RegistryProcess(journal=str(path)) as registry:
        async with aiohttp.ClientSession(registry.url) as session:

            async def call(method: str, target: str, body: object = None) -> tuple[int, dict[str, object]]:
                async with session.request(method, target, json=body) as answer:
                    return answer.status, await answer.json()

            assert (await call("POST", "/services", service("kept")))[0] == 201
            limit_file_size(registry.process.pid, 1024)
            status, body = await call("POST", "/services", service("lost"))
            assert status == 503
            assert body["error"]["code"] == "journal_unavailable"  # type: ignore[index]
            assert (await call("DELETE", "/services/kept"))[0] == 503
            assert (await call("PUT", "/services/kept", {"weight": 5}))[0] == 503
            assert (await call("POST", "/services/kept/heartbeat"))[0] == 200
            assert await listed(session) == {"kept": 8000}
            limit_file_size(registry.process.pid, resource.RLIM_INFINITY)
            assert (await call("POST", "/services", service("after")))[0] == 201
        registry.kill()
        assert "cannot be kept" in registry.errors
    with RegistryProcess(journal=str(path)) as registry:
        async with aiohttp.ClientSession(registry.url) as session:
            assert await listed(session) == {"kept": 8000, "after": 8000}
