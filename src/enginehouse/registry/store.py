"""What the registry needs of the place where its services are kept.

Owns: the interface (`Store`), what it tells (`Change`, `Heard`) and how it fails. It speaks leases and revisions, so
that a distributed engine can stand behind it as well as the embedded journal. May not live here: HTTP, implementations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from enginehouse.core.record import Record
from enginehouse.registry.leases import Entry, StoreError


class Unavailable(StoreError):
    """The change may not have been kept (disk full, an I/O error, too slow). Nothing was acknowledged; try again."""


class Full(StoreError):
    """No room for another service."""


class Change(NamedTuple):
    """One step in the history of the registry. Revisions follow each other without a gap."""

    revision: int
    name: str
    entry: Entry | None
    """None: the service was removed."""
    expired: bool = False
    """Removed because it fell silent, not by a DELETE."""


class Heard(NamedTuple):
    """When a service was last heard of."""

    monotonic: float
    """Seconds on the clock that decides about liveness."""
    wall: float
    """Epoch seconds, only for people."""
    confirmed: bool = True
    """False after a restart of the registry until a heartbeat or a successful probe."""


class Store(Protocol):
    """Services with leases, numbered changes, and liveness.

    Every coroutine that changes something returns when the change is durable, or raises a `StoreError`.
    """

    @property
    def epoch(self) -> str:
        """Changes whenever the numbering of revisions may have started again."""

    @property
    def revision(self) -> int:
        """Number of the last change."""

    def get(self, name: str) -> Entry | None:
        """One entry."""

    def entries(self) -> Iterable[Entry]:
        """All entries, sorted by name."""

    def heard(self, name: str) -> Heard:
        """When a registered service was last heard of."""

    def confirm(self, entry: Entry) -> None:
        """A probe found the service alive: it is confirmed, if this is still its incarnation."""

    async def put(self, record: Record, lease: str) -> Entry:
        """Register, take over or replace (`leases.put`); counts as a heartbeat."""

    async def amend(self, name: str, fields: Mapping[str, Any], lease: str) -> Entry:
        """Replace some fields (`leases.amend`); counts as a heartbeat. Also raises `RecordError`."""

    async def renew(self, name: str, lease: str, status: str) -> Entry:
        """A heartbeat. Durable only where it brings another status ("" for the same)."""

    async def remove(self, name: str, lease: str) -> None:
        """Unregister."""

    async def expire(self) -> int:
        """Remove what was silent for too long; how many."""

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every change from now on, in order, once it is durable."""
