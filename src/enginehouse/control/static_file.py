"""The file of static services: reading it, and noticing that it was edited.

Owns `parse()` (three shapes of the file to records) and `watch()`. May not live here: what a valid record is
(`core.record`), what the house makes of the services (`roster`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from enginehouse.control.roster import Rejected
from enginehouse.core.record import Record, RecordError, parse_record
from enginehouse.core.units import MAX_SERVICES, MIB

#: Bytes of the file.
MAX_FILE = 64 * MIB
#: Seconds between two looks at the file.
LOOK_INTERVAL = 1.0


class StaticServices(NamedTuple):
    """A file's content: what can be used of it, and what cannot."""

    records: tuple[Record, ...]
    rejected: tuple[Rejected, ...]


class Taker(Protocol):
    """Whoever wants to know what the file says."""

    def services(self, services: StaticServices) -> None:
        """The file has this content now."""

    def trouble(self, reason: str) -> None:
        """The file cannot be read or understood as it is now; what it said before counts."""


def parse(content: bytes, allow_networks: Sequence[str] = ()) -> StaticServices:
    """Services of a file `[...]`, `{"services": [...]}` or `{"static_services": {"services": [...]}}`.

    An item has `name, host, port, weight=1, metadata={}` and may have `url`, with scheme and path prefix, out of which
    a missing host and port are taken. Raises `ValueError` with a message to show for a file of another shape.
    """
    try:
        data = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    if isinstance(data, dict) and isinstance(data.get("static_services"), dict):
        data = data["static_services"]
    items = data.get("services") if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise ValueError('must be a list of services, {"services": [...]} or {"static_services": {"services": [...]}}')
    if len(items) > MAX_SERVICES:
        raise ValueError(f"has {len(items)} services; the limit is {MAX_SERVICES}")
    records: dict[str, Record] = {}
    rejected: list[Rejected] = []
    for index, item in enumerate(items):
        try:
            record = parse_record(_completed(item), allow_networks=allow_networks)
            if record.name in records:
                raise RecordError("name", "is used by an earlier service of this file")
            records[record.name] = record
        except RecordError as error:
            rejected.append(Rejected(_name(item, index), "static", str(error)))
    return StaticServices(tuple(records.values()), tuple(rejected))


async def watch(path: Path, taker: Taker, allow_networks: Sequence[str] = ()) -> None:
    """Tell `taker` what the file says, now and after every edit, until cancelled."""
    seen: object = None
    while True:
        stamp = await asyncio.to_thread(_stamp, path)
        if stamp != seen:
            seen = stamp
            try:
                taker.services(parse(await asyncio.to_thread(_read, path), allow_networks))
            except OSError as error:
                taker.trouble(f"{path}: {error.strerror}")
            except ValueError as error:
                taker.trouble(f"{path} {error}")
        await asyncio.sleep(LOOK_INTERVAL)


def _completed(item: object) -> object:
    """An item with the host and port of its URL where it states none."""
    if not isinstance(item, Mapping) or not isinstance(item.get("url"), str):
        return item
    completed: dict[str, Any] = dict(item)
    try:
        parts = urlsplit(completed["url"])
        completed.setdefault("host", parts.hostname)
        completed.setdefault("port", parts.port or (443 if parts.scheme == "https" else 80))
    except ValueError:
        pass  # parse_record says what is wrong with it
    return completed


def _name(item: object, index: int) -> str:
    """What to call a record that may have no name."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return name[:128] if isinstance(name, str) and name else f"#{index + 1}"


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when the file is written or replaced; empty while there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> bytes:
    """The content. Raises `OSError`, or `ValueError` for a file too large."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ValueError(f"is larger than {MAX_FILE} bytes")
    return content
