"""The embedded store: everything in memory, every change in the journal before anybody hears of it.

Owns: the order of changes (one writer), their numbers, group commits, liveness and expiry. The loop never waits for the
disk: the journal has a thread of its own. May not live here: who may write what (`leases`), SQL (`journal`), HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from enginehouse.core.record import Record, RecordError, parse_record
from enginehouse.core.units import MAX_SERVICES, MIB
from enginehouse.registry import leases
from enginehouse.registry.journal import Journal, JournalError
from enginehouse.registry.leases import Entry, StoreError, UnknownService
from enginehouse.registry.store import Change, Full, Heard, Unavailable

#: Bytes of all records together as JSON: what a snapshot may weigh.
MAX_TOTAL = 64 * MIB
#: Changes that wait for the disk, and how many of them one commit takes.
MAX_WAITING = 4096
MAX_BATCH = 256
#: Seconds after which a change is not acknowledged any more.
COMMIT_DEADLINE = 10.0

log = logging.getLogger("enginehouse.registry")

#: What a write makes of an entry, given the number it would get. The same object: nothing to write. None: removed.
Decision = Callable[[Entry | None, int], Entry | None]


class _Write(NamedTuple):
    name: str
    decide: Decision
    done: asyncio.Future[Entry | None]
    expires: bool


class EmbeddedStore:
    """A `Store` on one `Journal`. `start` before use, `stop` after it; everything on one loop.

    `clock`: monotonic seconds, `wall`: epoch seconds.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        stale_after: float,
        remove_after: float,
        allow_networks: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.epoch = secrets.token_hex(8)  # of this run: after a restart followers are given everything once
        self.revision = 0
        self._journal = journal
        self._stale_after = stale_after
        self._remove_after = remove_after
        self._allow_networks = allow_networks
        self._clock = clock
        self._wall = wall
        self._entries: dict[str, Entry] = {}
        self._heard: dict[str, Heard] = {}
        self._sizes: dict[str, int] = {}
        self._listeners: list[Callable[[Change], None]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._queue: asyncio.Queue[_Write] = asyncio.Queue(MAX_WAITING)
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the journal. What it held is there again, unconfirmed; its liveness counts from now."""
        loop = asyncio.get_running_loop()
        self.revision, entries = await loop.run_in_executor(self._thread, self._journal.load)
        heard = Heard(self._clock(), self._wall(), confirmed=False)
        for entry in entries:
            try:
                parse_record(msgspec.structs.asdict(entry.record), allow_networks=self._allow_networks)
            except RecordError as error:
                log.warning("service %r of the journal is left out: %s", entry.record.name, error)
                continue
            self._keep(entry.record.name, entry, heard)
        self._writer = asyncio.create_task(self._write_forever(), name="registry writer")

    async def stop(self) -> None:
        """Carry out what is under way, refuse what still waits, close the journal."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer], timeout=COMMIT_DEADLINE)
        while not self._queue.empty():
            _settle(self._queue.get_nowait().done, Unavailable("the registry stops; try again"))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.close)
        self._thread.shutdown(wait=False)

    # reading

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def entries(self) -> Iterable[Entry]:
        return [self._entries[name] for name in sorted(self._entries)]

    def heard(self, name: str) -> Heard:
        return self._heard[name]

    def listen(self, listener: Callable[[Change], None]) -> None:
        self._listeners.append(listener)

    # liveness, never written

    def confirm(self, entry: Entry) -> None:
        name = entry.record.name
        if self._entries.get(name) is entry:
            self._heard[name] = self._heard[name]._replace(confirmed=True)

    def _beat(self, name: str) -> None:
        self._heard[name] = Heard(self._clock(), self._wall())

    def _silence(self, name: str) -> float:
        return self._clock() - self._heard[name].monotonic

    # writing

    async def put(self, record: Record, lease: str) -> Entry:
        fresh = secrets.token_hex(16)

        def decide(old: Entry | None, revision: int) -> Entry:
            live = record.name in self._heard and self._silence(record.name) < self._stale_after
            return leases.put(old, record, lease, fresh=fresh, live=live, revision=revision, wall=self._wall())

        return await self._change(record.name, decide)

    async def amend(self, name: str, fields: Mapping[str, Any], lease: str) -> Entry:
        def decide(old: Entry | None, revision: int) -> Entry:
            entry = leases.amender(old, name, lease, fields)
            networks = self._allow_networks
            return leases.amend(entry, fields, lease, allow_networks=networks, revision=revision, wall=self._wall())

        return await self._change(name, decide)

    async def renew(self, name: str, lease: str, status: str) -> Entry:
        entry = leases.holder(self._entries.get(name), name, lease)
        if not status or status == entry.record.status:
            self._beat(name)
            return entry

        def decide(old: Entry | None, revision: int) -> Entry:
            entry, networks = leases.holder(old, name, lease), self._allow_networks
            return leases.restated(entry, status, allow_networks=networks, revision=revision, wall=self._wall())

        return await self._change(name, decide)

    async def remove(self, name: str, lease: str) -> None:
        def decide(old: Entry | None, _revision: int) -> None:
            leases.holder(old, name, lease)

        await self._submit(name, decide)

    async def expire(self) -> int:
        def silent(name: str) -> bool:
            return name in self._heard and self._silence(name) >= self._remove_after

        def decide(old: Entry | None, _revision: int) -> Entry | None:
            return None if old is None or silent(old.record.name) else old

        names = [name for name in self._entries if silent(name)]
        # One after the other: a cleanup is never in a hurry, and the queue stays free for others.
        for name in names:
            await self._submit(name, decide, expires=True)
        return len(names)

    async def _change(self, name: str, decide: Decision) -> Entry:
        before = self._entries.get(name)
        entry = await self._submit(name, decide)
        if entry is None or name not in self._heard:
            raise UnknownService(name)  # removed by somebody else in the same moment
        if entry is before:
            self._beat(name)
        return entry

    async def _submit(self, name: str, decide: Decision, *, expires: bool = False) -> Entry | None:
        """Queue a write and wait until it is durable. Raises what `decide` raises, or `Unavailable`."""
        done: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Write(name, decide, done, expires))
            async with asyncio.timeout(COMMIT_DEADLINE):
                return await done
        except asyncio.QueueFull:
            raise Unavailable("too many changes wait for the disk; try again") from None
        except TimeoutError:
            raise Unavailable(f"the disk took longer than {COMMIT_DEADLINE:.0f} s; the change may be lost") from None

    async def _write_forever(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
            committing = asyncio.create_task(self._commit_or_refuse(batch))
            try:
                await asyncio.shield(committing)
            except asyncio.CancelledError:
                await committing  # a stop: what the disk already has is still acknowledged
                raise

    async def _commit_or_refuse(self, batch: Sequence[_Write]) -> None:
        """Whatever happens to one batch, the writer lives and everybody is answered."""
        try:
            await self._commit(batch)
        except Exception:
            log.exception("a bug: a change could not be carried out")
            for write in batch:
                _settle(write.done, Unavailable("the registry failed to carry out the change"))

    async def _commit(self, writes: Sequence[_Write]) -> None:
        """Decide all writes one after the other, write what they change in one go, then tell everybody."""
        batch = _Batch(self.revision, self._entries, self._sizes)
        outcomes: list[Entry | Exception | None] = []
        for write in writes:
            try:
                outcomes.append(batch.carry_out(write))
            except (StoreError, RecordError) as error:
                outcomes.append(error)
        if batch.changes and (failure := await self._journalled(batch)):
            outcomes = [failure] * len(writes)
        else:
            for change in batch.changes:
                self._publish(change)
        for write, outcome in zip(writes, outcomes, strict=True):
            _settle(write.done, outcome)

    async def _journalled(self, batch: _Batch) -> Unavailable | None:
        loop = asyncio.get_running_loop()
        rows, revision = list(batch.state.items()), batch.changes[-1].revision
        try:
            await loop.run_in_executor(self._thread, self._journal.commit, rows, revision)
        except JournalError as error:
            log.error("a change was refused because it cannot be kept: %s", error)
            return Unavailable(f"the change cannot be kept: {error}")
        return None

    def _publish(self, change: Change) -> None:
        self.revision = change.revision
        if change.entry is None:
            for table in (self._entries, self._heard, self._sizes):
                table.pop(change.name, None)
        else:
            self._keep(change.name, change.entry, Heard(self._clock(), self._wall()))
        for listener in self._listeners:
            listener(change)

    def _keep(self, name: str, entry: Entry, heard: Heard) -> None:
        self._entries[name] = entry
        self._heard[name] = heard
        self._sizes[name] = _size(entry)


class _Batch:
    """What a row of writes makes of the entries, before any of it is durable."""

    def __init__(self, revision: int, entries: Mapping[str, Entry], sizes: Mapping[str, int]) -> None:
        self.state: dict[str, Entry | None] = {}
        self.changes: list[Change] = []
        self._revision = revision
        self._entries = entries
        self._sizes = dict(sizes)
        self._count = len(entries)
        self._total = sum(sizes.values())

    def carry_out(self, write: _Write) -> Entry | None:
        """The entry after it. Raises what its decision raises, and `Full` rather than let the registry grow."""
        name = write.name
        old = self.state[name] if name in self.state else self._entries.get(name)
        revision = self._revision + len(self.changes) + 1
        new = write.decide(old, revision)
        if new is old:
            return new
        count = self._count - (old is not None) + (new is not None)
        size = _size(new) if new is not None else 0
        total = self._total - self._sizes.get(name, 0) + size
        if count > max(MAX_SERVICES, self._count):
            raise Full(f"the registry holds {MAX_SERVICES} services, which is its limit")
        if total > max(MAX_TOTAL, self._total):
            raise Full(f"all services together may take {MAX_TOTAL} bytes")
        self._count, self._total, self._sizes[name] = count, total, size
        self.state[name] = new
        self.changes.append(Change(revision, name, new, write.expires))
        return new


def _size(entry: Entry) -> int:
    return len(msgspec.json.encode(entry.record))


def _settle(done: asyncio.Future[Entry | None], outcome: Entry | Exception | None) -> None:
    """Answer a caller, unless he waits no more."""
    if done.done():
        return
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
