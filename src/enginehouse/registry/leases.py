"""Who may write a record: leases, incarnations and take-overs, as pure decisions.

Owns: `Entry` (a record with the lease it was made with) and the rules of POST, PUT, DELETE and heartbeat (`put`,
`amend`, `holder`). May not live here: keeping entries, clocks, HTTP.

The rules:
- A POST with a lease of its own registers an incarnation. Over a record with another lease it is the successor and
  takes over; the lease it replaced is retired and never accepted again, so a late call of the old instance is harmless.
- A POST without a lease makes a record that anybody may change without a lease, as the inherited registry did. Over a
  live record that was made with a lease it is refused; over one that fell silent it is accepted.
- PUT, DELETE and heartbeat with a lease need the one the record has; without one, a record that was made without.
- A drain is an order about a service, not something that its incarnation says of itself: PUT of the status "draining",
  and of "running" to lift it, need no lease if they say nothing else. Heartbeats do not end it, a new incarnation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from enginehouse.core.record import DRAINING, RUNNING, Record, default_url, parse_record

#: Leases remembered per record after a take-over: an old instance calls at most a few times before it stops.
RETIRED_KEPT = 8


class StoreError(Exception):
    """A call that was not carried out. The message says why and what to do."""


class UnknownService(StoreError):
    """No such name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Service '{name}' not found; POST /services registers it")


class LeaseMismatch(StoreError):
    """The record belongs to somebody else."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the registry: membership only, nothing that a heartbeat or a probe changes."""

    record: Record
    lease: str
    leased: bool
    """The lease came from the client; calls without one cannot touch the record."""
    revision: int
    """Of the change that made this entry."""
    registered: float
    """Wall clock, epoch seconds. Only for people."""
    retired: tuple[str, ...] = ()
    """Leases that were replaced, the newest last."""
    draining: bool = False
    """Somebody ordered that it gets no more requests."""

    @property
    def status(self) -> str:
        """What everybody is told."""
        return DRAINING if self.draining else self.record.status


def put(old: Entry | None, record: Record, lease: str, *, fresh: str, live: bool, revision: int, wall: float) -> Entry:
    """The entry after a POST; `old` itself if it changes nothing.

    `lease`: the client's, "" for none; `fresh`: a new one for that case; `live`: whether `old` was heard of lately.
    Raises `LeaseMismatch`.
    """
    retired: tuple[str, ...] = ()
    if old is not None:
        if lease in old.retired:
            raise LeaseMismatch(f"Service '{record.name}' was taken over by a newer instance; this one must stop")
        if not lease and old.leased and live:
            raise LeaseMismatch(
                f"Service '{record.name}' is registered with a lease by a running instance; "
                "send a lease of your own to take it over"
            )
        if lease == old.lease and old.leased:
            return old if record == old.record else _changed(old, record, revision, wall)
        if not lease and not old.leased and record == old.record and not old.draining:
            return old
        retired = (*old.retired, old.lease)[-RETIRED_KEPT:]
    return Entry(
        record=record,
        lease=lease or fresh,
        leased=bool(lease),
        revision=revision,
        registered=wall,
        retired=retired,
    )


def holder(old: Entry | None, name: str, lease: str) -> Entry:
    """The entry, if a caller with this lease ("" for none) may change it.

    Raises `UnknownService` or `LeaseMismatch`.
    """
    if old is None:
        raise UnknownService(name)
    if lease != old.lease and (lease or old.leased):
        raise LeaseMismatch(
            f"Service '{name}' belongs to another lease than the one of this call; "
            "POST /services with a lease of your own takes it over"
        )
    return old


def amender(old: Entry | None, name: str, lease: str, fields: Mapping[str, Any]) -> Entry:
    """The entry, if a caller with this lease ("" for none) may PUT these fields of it.

    Raises `UnknownService` or `LeaseMismatch`.
    """
    if old is not None and not lease and fields.keys() == {"status"}:
        if fields["status"] == DRAINING or (old.draining and fields["status"] == RUNNING):
            return old
    return holder(old, name, lease)


def amend(
    entry: Entry, fields: Mapping[str, Any], lease: str, *, allow_networks: Sequence[str], revision: int, wall: float
) -> Entry:
    """The entry after a PUT that its `amender` may make; `entry` itself if that changes nothing.

    What was derived is derived again. Raises `RecordError` where the result is not a valid record.
    """
    status = fields.get("status")
    draining = entry.draining if status is None else status == DRAINING
    if status == DRAINING or (entry.leased and lease != entry.lease):
        fields = {key: value for key, value in fields.items() if key != "status"}
    record = amended(entry.record, fields, allow_networks)
    if record == entry.record and draining == entry.draining:
        return entry
    return msgspec.structs.replace(_changed(entry, record, revision, wall), draining=draining)


def restated(entry: Entry, status: str, *, allow_networks: Sequence[str], revision: int, wall: float) -> Entry:
    """The entry after a heartbeat that brings this status: what the service says of itself ends no drain."""
    record = amended(entry.record, {"status": status}, allow_networks)
    return entry if record == entry.record else _changed(entry, record, revision, wall)


def amended(record: Record, fields: Mapping[str, Any], allow_networks: Sequence[str]) -> Record:
    """The record with some fields replaced. Raises `RecordError`."""
    merged = msgspec.structs.asdict(record)
    if record.url == default_url(record.host, record.port):
        del merged["url"]
    if record.hostname == record.host:
        del merged["hostname"]
    merged |= {key: value for key, value in fields.items() if value is not None}
    merged["name"] = record.name
    return parse_record(merged, allow_networks=allow_networks)


def _changed(entry: Entry, record: Record, revision: int, wall: float) -> Entry:
    return msgspec.structs.replace(entry, record=record, revision=revision, registered=wall)
