"""A drain is ordered by whoever may write, kept over heartbeats and restarts, ended by an order or a successor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from enginehouse.core.record import Record, parse_record
from enginehouse.registry.embedded import EmbeddedStore
from enginehouse.registry.journal import Journal
from enginehouse.registry.leases import LeaseMismatch, UnknownService
from enginehouse.registry.store import Change

DRAIN, LIFT = {"status": "draining"}, {"status": "running"}


def record(**fields: object) -> Record:
    return parse_record({"name": "e", "host": "localhost", "port": 9000} | fields)


@asynccontextmanager
async def opened(path: Path | str = "") -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(Journal(str(path)), stale_after=120.0, remove_after=300.0)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def status(store: EmbeddedStore) -> str:
    entry = store.get("e")
    assert entry is not None
    return entry.status


@pytest.mark.parametrize("lease", ["", "L"])
async def test_a_drain_needs_no_lease_and_is_kept_over_heartbeats_until_it_is_lifted(lease: str) -> None:
    """Defect: no drain."""
    async with opened() as store:
        changes: list[Change] = []
        store.listen(changes.append)
        await store.put(record(), lease)
        await store.amend("e", DRAIN, "")
        assert status(store) == "draining"
        for said in ("", "running", "degraded", "running"):
            await store.renew("e", lease, said)
            assert status(store) == "draining"
        await store.amend("e", LIFT, "")
        assert status(store) == "running"
        assert [change.entry.status for change in changes if change.entry] == [
            "running", "draining", "draining", "draining", "running"
        ]  # fmt: skip


async def test_the_same_incarnation_may_describe_itself_anew_without_ending_a_drain() -> None:
    async with opened() as store:
        await store.put(record(), "L")
        await store.amend("e", DRAIN, "")
        await store.put(record(), "L")
        await store.put(record(metadata={"models": ["new"]}), "L")
        assert status(store) == "draining"


@pytest.mark.parametrize(("old", "new"), [("L", "M"), ("", "L"), ("", "")])
async def test_a_successor_takes_requests(old: str, new: str) -> None:
    """Defect: no drain.

    An engine that was drained and restarted comes back by itself; who registers without leases does it by a POST.
    """
    async with opened() as store:
        await store.put(record(), old)
        await store.amend("e", DRAIN, "")
        await store.put(record(), new)
        assert status(store) == "running"


async def test_without_a_lease_nothing_else_of_a_leased_record_can_be_changed() -> None:
    async with opened() as store:
        await store.put(record(), "L")
        for fields in (LIFT, {"status": "stopped"}, DRAIN | {"weight": 3}, {"weight": 3}, {}):
            with pytest.raises(LeaseMismatch):
                await store.amend("e", fields, "")
        with pytest.raises(LeaseMismatch):
            await store.amend("e", DRAIN, "another")
        with pytest.raises(UnknownService):
            await store.amend("nobody", DRAIN, "")
        assert status(store) == "running"


async def test_lifting_a_drain_does_not_make_a_sick_engine_well() -> None:
    async with opened() as store:
        await store.put(record(), "L")
        await store.renew("e", "L", "degraded")
        await store.amend("e", DRAIN, "")
        await store.amend("e", LIFT, "")
        assert status(store) == "degraded"


async def test_a_drain_outlives_the_registry(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as store:
        await store.put(record(), "L")
        await store.amend("e", DRAIN, "")
    async with opened(tmp_path / "journal") as store:
        assert status(store) == "draining"
        await store.renew("e", "L", "running")
        assert status(store) == "draining"
