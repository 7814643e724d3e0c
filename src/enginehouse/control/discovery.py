"""Following a registry: by its feed where it has one, by asking again and again where it has none.

Owns `Discovery`: connecting, continuing where it left off, falling back to polling, coming back after an outage, and
the checking of every record. What cannot be used is rejected with its reason and stops nothing. May not live here: the
registry's protocol (`RegistryFeed` is handed in) and what becomes of the services (`roster`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

from enginehouse.control.roster import Rejected, Roster
from enginehouse.core.record import Record, RecordError, parse_record

#: Seconds before a registry that cannot be reached is tried again; doubles up to `LONGEST_DELAY`.
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0

#: What no client raises on purpose: such an error is logged with where it came from.
BUGS = (TypeError, AttributeError, LookupError, AssertionError)

log = logging.getLogger(__name__)


class RegistryFeed(Protocol):
    """A registry's client. Its errors have messages fit to be shown."""

    async def list(self) -> Sequence[object]:
        """All services, as plain JSON."""

    def watch(self, revision: int = 0, epoch: str = "") -> AsyncGenerator[Any, None]:
        """Changes after `revision` of `epoch`; (0, "") begins with everything.

        Every event has `epoch` and `revision`. A snapshot has `services`, a put `service`, a delete `name` and
        `expired`, a reset nothing more. Services are plain JSON.
        """


class RegistryClient(RegistryFeed, Protocol):
    """One that changes records, too."""

    async def update(self, name: str, fields: Mapping[str, Any]) -> None:
        """Replace some fields of a service's record."""


class Place(NamedTuple):
    """How far the feed has been followed."""

    epoch: str = ""
    revision: int = 0


class Discovery:
    """Keeps a roster up to date with a registry; `changed()` is called after each change."""

    def __init__(
        self,
        feed: RegistryFeed,
        no_feed: type[Exception],
        roster: Roster,
        changed: Callable[[], None],
        sync_interval: float,
        allow_networks: Sequence[str] = (),
    ) -> None:
        """`no_feed`: what `feed.watch` raises for a registry to be polled, every `sync_interval` seconds."""
        self._feed = feed
        self._no_feed = no_feed
        self._roster = roster
        self._changed = changed
        self._sync_interval = sync_interval
        self._allow = tuple(allow_networks)
        self._place = Place()
        self._failures = 0

    async def follow(self) -> None:
        """Follow the registry until cancelled. Services stay as they are while it is away."""
        while True:
            try:
                try:
                    if self._failures:
                        await self._feed.list()  # a feed that continues may be silent: this tells that it is back
                        self._roster.report("registry", "")
                    await self._watch()
                except self._no_feed:
                    await self._poll()
            except Exception as error:  # the client's errors, or a bug that must not end discovery
                if self._failures == 0:
                    log.warning("registry: %s", error, exc_info=isinstance(error, BUGS))
                self._roster.report("registry", str(error) or type(error).__name__)
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._failures, 16))
            self._failures += 1
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the load, no secret

    async def _watch(self) -> None:
        """Follow the feed until it ends."""
        async with aclosing(self._feed.watch(self._place.revision, self._place.epoch)) as events:
            async for event in events:
                if not self._take(event):
                    log.warning("registry: its feed has a gap, everything is asked for again")
                    self._place = Place()
                    return
                self._answered()

    async def _poll(self) -> None:
        """Ask for everything again and again, until that fails: then there may be a feed."""
        self._place = Place()
        while True:
            self._replace(await self._feed.list())
            self._answered()
            await asyncio.sleep(self._sync_interval)

    def _answered(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("registry: it answers")
        self._changed()

    def _take(self, event: Any) -> bool:
        """One event of the feed. False where one is missing before it."""
        now = time.monotonic()
        place = Place(str(getattr(event, "epoch", "")), int(getattr(event, "revision", 0)))
        follows = place == Place(self._place.epoch, self._place.revision + 1)
        match event:
            case object(services=services):
                self._replace(services)
            case object(service=service) if follows:
                self._put(service, now)
            case object(name=str(name), expired=expired) if follows:
                (self._roster.lose if expired else self._roster.delete)(name, now)
            case object(service=_) | object(name=_):
                return False
        self._place = place
        return True

    def _replace(self, services: Iterable[object]) -> None:
        checked = [self._check(service) for service in services]
        records = [item for item in checked if isinstance(item, Record)]
        rejected = [item for item in checked if isinstance(item, Rejected)]
        self._roster.replace("registry", records, rejected, time.monotonic())

    def _put(self, service: object, now: float) -> None:
        checked = self._check(service)
        if isinstance(checked, Record):
            self._roster.put(checked, now)
        else:
            self._roster.reject(checked, now)

    def _check(self, service: object) -> Record | Rejected:
        """A record that may be used, or why it may not."""
        try:
            return parse_record(service, allow_networks=self._allow)
        except RecordError as error:
            name = service.get("name") if isinstance(service, dict) else None
            return Rejected(name[:128] if isinstance(name, str) else "(no name)", "registry", str(error))
