"""What the registry shows of itself: the shapes of its JSON, exactly as programs written against it expect them.

Owns: the structs that are sent (the OpenAPI document is made from the same) and `Observer`, which puts a service
together from its record, its heartbeats and its last probe. May not live here: HTTP, where any of that is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from enginehouse.core.record import RUNNING, Record
from enginehouse.registry.leases import Entry
from enginehouse.registry.store import Store

HealthStatus = Literal["healthy", "unhealthy", "unknown"]


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A service as listed."""

    name: str
    host: str
    port: int
    hostname: str
    url: str
    status: str
    timestamp: str
    """When the record was last changed (RFC 3339, UTC)."""
    last_heartbeat: float
    """Epoch seconds. After a restart of the registry: the time of the restart, until a heartbeat comes."""
    health_status: HealthStatus
    """The last probe's verdict; "unknown" until probed."""
    is_healthy: bool
    """Status "running", heard of lately, not found dead by the last probe, and confirmed since a restart."""
    weight: int
    metadata: dict[str, Any]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /services`"""

    services: list[ServiceView]
    total: int
    timestamp: str


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /services`"""

    message: str
    service: ServiceView
    lease: str
    """Send it as `?lease=` with what concerns this incarnation."""


class Updated(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /services/{name}`"""

    message: str
    service: ServiceView


class Unregistered(msgspec.Struct, frozen=True, kw_only=True):
    """`DELETE /services/{name}`"""

    message: str


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /services/{name}/heartbeat`"""

    message: str
    timestamp: str


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /services/{name}/health`"""

    service: str
    health_status: HealthStatus
    is_healthy: bool
    last_heartbeat: float
    timestamp: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /health`"""

    status: str
    registry: str
    registered_services: int
    healthy_services: int
    timestamp: str


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /stats`"""

    total_services: int
    healthy_services: int
    unhealthy_services: int
    status_distribution: dict[str, int]
    host_distribution: dict[str, int]
    uptime: float
    """Seconds."""
    timestamp: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Event `snapshot` of the feed: everything, as of `revision`."""

    epoch: str
    revision: int
    services: list[ServiceView]


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """Event `put`: a service is new or was changed."""

    epoch: str
    revision: int
    service: ServiceView


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Event `delete`: a service is gone."""

    epoch: str
    revision: int
    name: str
    reason: Literal["unregistered", "expired"]
    """Taken back by its owner, or silent for too long (which says little about the engine)."""


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """Event `reset`: what the follower knows cannot be continued; a snapshot comes next."""

    epoch: str
    revision: int


class Observer:
    """Looks at services in a store. `verdict` tells what the last probe of an entry found."""

    def __init__(
        self,
        store: Store,
        verdict: Callable[[Entry], HealthStatus],
        stale_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._verdict = verdict
        self._stale_after = stale_after
        self._clock = clock

    def view(self, entry: Entry) -> ServiceView:
        """One service as it stands now."""
        record: Record = entry.record
        heard = self._store.heard(record.name)
        verdict = self._verdict(entry)
        fresh = self._clock() - heard.monotonic < self._stale_after
        return ServiceView(
            name=record.name,
            host=record.host,
            port=record.port,
            hostname=record.hostname,
            url=record.url,
            status=entry.status,
            timestamp=rfc3339(entry.registered),
            last_heartbeat=heard.wall,
            health_status=verdict,
            is_healthy=entry.status == RUNNING and fresh and heard.confirmed and verdict != "unhealthy",
            weight=record.weight,
            metadata=record.metadata,
        )

    def views(self) -> list[ServiceView]:
        """All services, sorted by name."""
        return [self.view(entry) for entry in self._store.entries()]


def rfc3339(seconds: float | None = None) -> str:
    """A time in epoch seconds (default: now), in UTC."""
    return (datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)).isoformat()
