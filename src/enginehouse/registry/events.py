"""The feed as a client sees it: bytes of server-sent events to typed values.

Owns: the four events and the incremental reader of our own feed. Services in them are plain JSON: whoever uses one
checks it first (`core.record.parse_record`). May not live here: connections (`client`), producing a feed (`feed`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from enginehouse.core.units import MIB

#: Bytes of one event: a snapshot of the largest registry (64 MiB of records) and what the listing adds.
MAX_EVENT = 96 * MIB


class FeedBroken(Exception):
    """What arrived is no feed of ours."""


class Snapshot(NamedTuple):
    """Everything, as of `revision`; replaces all that was known."""

    epoch: str
    revision: int
    services: tuple[object, ...]


class Put(NamedTuple):
    """A service is new or was changed."""

    epoch: str
    revision: int
    service: object


class Delete(NamedTuple):
    """A service is gone: taken back by its owner, or (`expired`) silent for too long."""

    epoch: str
    revision: int
    name: str
    expired: bool


class Reset(NamedTuple):
    """The place we asked for cannot be continued; a `Snapshot` follows."""

    epoch: str
    revision: int


FeedEvent = Snapshot | Put | Delete | Reset


class _Data(msgspec.Struct):
    epoch: str
    revision: int
    services: list[Any] = []
    service: Any = None
    name: str = ""
    reason: str = ""


class FeedReader:
    """Feed it bytes as they come, in pieces of any size; it returns the events that are complete."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[FeedEvent]:
        """Raises `FeedBroken`."""
        searched = max(0, len(self._rest) - 1)
        self._rest += data
        events: list[FeedEvent] = []
        start = 0
        while (end := self._rest.find(b"\n\n", max(searched, start))) >= 0:
            if event := _parse(bytes(self._rest[start:end])):
                events.append(event)
            start = end + 2
        del self._rest[:start]
        if len(self._rest) > MAX_EVENT:
            raise FeedBroken(f"an event of more than {MAX_EVENT} bytes")
        return events


def _parse(block: bytes) -> FeedEvent | None:
    """One block of lines; None for a comment and for events of a later version."""
    kind, text = b"", b""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b": ")
        if field == b"event":
            kind = value
        elif field == b"data":
            text = value
    if not text:
        return None
    try:
        data = msgspec.json.decode(text, type=_Data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FeedBroken(f"an event that cannot be read: {error}") from None
    match kind:
        case b"snapshot":
            return Snapshot(data.epoch, data.revision, tuple(data.services))
        case b"put":
            return Put(data.epoch, data.revision, data.service)
        case b"delete":
            return Delete(data.epoch, data.revision, data.name, data.reason == "expired")
        case b"reset":
            return Reset(data.epoch, data.revision)
    return None
