"""The control process: its parts, put together, from start to end.

Owns `run()` and `Control`, the little that connects the parts: a change of the roster leads to probes and to a new
fleet, a report of a worker to counts and suspicions. May not live here: anything one of the parts can decide by itself.

Nothing is kept on disk. A control that is restarted learns everything again, from the sources, the engines and the
workers' cumulative reports; see `slots` and `publisher` for how the workers get over that moment.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from starlette.routing import Route

from enginehouse.control import api, static_file
from enginehouse.control.access import Accesses
from enginehouse.control.actions import Actions
from enginehouse.control.babysitters import Babysitters
from enginehouse.control.detail import Details
from enginehouse.control.discovery import Discovery, RegistryClient
from enginehouse.control.engine_client import EngineClient
from enginehouse.control.events import Journal, Kind
from enginehouse.control.explaining import Explainer
from enginehouse.control.feed import Feed
from enginehouse.control.gauges import Gauges
from enginehouse.control.guard import Guard
from enginehouse.control.history import History
from enginehouse.control.kv_cache import KvCaches
from enginehouse.control.ledger import Ledger
from enginehouse.control.live import Live
from enginehouse.control.live_api import LiveApi
from enginehouse.control.measured import Measured
from enginehouse.control.metrics_api import metrics_route
from enginehouse.control.noticing import Notices
from enginehouse.control.pages import page_routes, read_files
from enginehouse.control.probe import Look, Probe
from enginehouse.control.prober import Prober
from enginehouse.control.publisher import PATIENCE, Publisher
from enginehouse.control.resolver import Resolver
from enginehouse.control.roster import Entry, Probed, Roster, Source, snapshot
from enginehouse.control.static_file import StaticServices
from enginehouse.control.views import Views
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Report
from enginehouse.core.shared import CONTROL_SLOT, Shared
from enginehouse.machines.health import (
    Command,
    Ejected,
    ProbeFailed,
    ProbePassed,
    Readmit,
    RequestsFailed,
    State,
)
from enginehouse.policy.ejection import Rules

if TYPE_CHECKING:
    from enginehouse.control.traces import Traces

#: Seconds that changes are collected before a fleet is made of them.
COALESCE = 0.01
#: Seconds between two searches for services whose grace period is over.
EXPIRE_INTERVAL = 0.5

log = logging.getLogger(__name__)


async def run(
    config: RouterConfig,
    api_socket: socket.socket,
    wire_socket: socket.socket,
    shared: Shared,
    make_feed: Callable[[aiohttp.ClientSession], RegistryClient],
    pages: Path,
    admin_token: str = "",
    *,
    no_feed: type[Exception],
    access: Callable[[str], tuple[str, str]] = lambda _: ("", ""),
    trace_headers: Mapping[str, str] | None = None,
    stop: asyncio.Event | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Be the control process until `stop` is set, or until cancelled.

    Both sockets are Unix sockets that already listen. `make_feed(session)` gives a client of `config.registry_url`; it
    is not called where that is "". `no_feed` is what its `watch` raises for a registry to be polled. `access(name)`
    gives the key and the CA file for an engine, "" for none. `pages`: the directory of the dashboard's files;
    `admin_token` lets its holder act through it, "" nobody. `trace_headers` go to the collector of traces.

    With `ready` another control still serves on these sockets: nobody is answered until every service was looked at;
    then `ready` is called.
    """
    accesses = Accesses(access)
    resolver = Resolver(config.allow_networks)
    client = EngineClient(resolver, accesses, config.health_timeout)
    control = Control(config, shared, accesses, resolver, client)
    if config.otlp_endpoint:
        control.export_traces(config.otlp_endpoint, trace_headers or {})
    views = Views(config, control.roster, control.ledger, control.publisher, shared, time.monotonic)
    guard = Guard(admin_token)
    history = History(control.measured, control.publisher, control.roster, shared, time.monotonic)
    shown, routes = _showing(config, control, views, history, shared, guard)
    routes += [*page_routes(read_files(pages)), metrics_route(control.gauges(views))]
    async with aiohttp.ClientSession() as session:
        jobs: list[Coroutine[Any, Any, object]] = []
        if config.registry_url:
            roster, interval = control.roster, config.registry_sync_interval
            feed = make_feed(session)
            routes += Actions(guard, roster, feed.update).routes()
            jobs.append(Discovery(feed, no_feed, roster, control.changed, interval, config.allow_networks).follow())
        else:
            routes += Actions(guard, control.roster, None).routes()
        if config.static_services:
            jobs.append(static_file.watch(Path(config.static_services), control, config.allow_networks))
        if stop:
            jobs.append(stop.wait())
        explainer = Explainer(config, control.roster, control.publisher, shared, time.monotonic)
        app = api.make_app(views, explainer, config.max_body, routes)
        jobs += [control.serve((partial(api.serve, app, api_socket), history.keep), wire_socket, ready)]
        jobs += [control.keep_publishing(), control.keep_tidy(views.is_drained)]
        try:
            await _first_to_end(jobs)
        finally:
            await shown.close()
            await control.close()
            await client.close()


def _showing(
    config: RouterConfig, control: Control, views: Views, history: History, shared: Shared, guard: Guard
) -> tuple[Feed, list[Route]]:
    """What is told live, and the paths where it is told."""
    clocks, actions = (time.monotonic, time.time), guard.allows_actions
    live = Live(
        config,
        control.roster,
        control.ledger,
        control.measured,
        views,
        control.journal,
        history,
        shared,
        *clocks,
        actions=actions,
    )
    control.showing(live.take)
    feed = Feed(live, shared, time.monotonic)
    details = Details(control.roster, views, live, control.babysitters)
    return feed, LiveApi(control.journal, feed, guard, details.of).routes()


async def _first_to_end(jobs: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Run all until one ends, which only `stop` and a bug do; the bug is raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Control:
    """What connects the parts."""

    def __init__(
        self,
        config: RouterConfig,
        shared: Shared,
        accesses: Accesses,
        resolver: Resolver,
        client: EngineClient,
    ) -> None:
        self.journal = Journal(time.time)
        self._notices = Notices(self.journal, shared, time.monotonic(), time.time_ns())
        self._show: Callable[[Report], None] = lambda _: None
        self.babysitters = Babysitters(client, self.journal.add)
        sources: list[Source] = ["static"] if config.static_services else []
        sources += ["registry"] if config.registry_url else []
        self.roster = Roster(sources, config.max_errors, config.service_removal_grace_period, self._obey, self._tell)
        self.ledger = Ledger()
        self.measured = Measured(shared.keep, shared.kept)
        # A look is at most two requests, to /health and /v1/models.
        self.publisher = Publisher(self._reported, PATIENCE + 2 * config.health_timeout)
        self.prober = Prober(self._resolve_and_look, self._seen, config.health_interval)
        self._look = Probe(resolver, accesses, client).look
        self._resolver = resolver
        self._resolve_interval = config.resolve_interval
        self._accesses = accesses
        self._shared = shared
        self._rules = Rules(config)
        self._informed = asyncio.Event()
        """Every source has answered, and every service was looked at once."""
        self._changed = asyncio.Event()
        self._changed.set()
        self.kv_caches = KvCaches(client.get, self._changed.set)
        self._traces: Traces | None = None

    def gauges(self, views: Views) -> Gauges:
        """What `/metrics` tells."""
        return Gauges(self.roster, views, self.measured, self.publisher, self._shared, self._spans)

    def changed(self) -> None:
        """Something of the roster changed: follow it, and tell the workers soon."""
        for entry in self.roster.entries.values():
            if not entry.addresses and (known := self._resolver.known(entry.endpoint.host)):
                entry.addresses = known.addresses
        self.prober.follow(self.roster.entries)
        self._changed.set()

    def showing(self, show: Callable[[Report], None]) -> None:
        """Every report goes there, too."""
        self._show = show

    def export_traces(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Send what the workers traced to a collector."""
        from enginehouse.control.traces import Traces  # an extra, and slow to import

        self._traces = Traces(endpoint, headers)

    def _spans(self) -> dict[str, int]:
        return self._traces.results() if self._traces is not None else {}

    async def close(self) -> None:
        """End what goes on by itself; what was traced is still sent."""
        await self.babysitters.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        await self.prober.close()
        await self.kv_caches.close()

    def _tell(self, kind: Kind, service: str, reason: str) -> None:
        self.journal.add(kind, service, reason)
        if kind is Kind.JOINED:
            self.babysitters.joined(self.roster.entries[service])

    # the static file

    def services(self, services: StaticServices) -> None:
        """The file was read."""
        self.roster.replace("static", services.records, services.rejected, time.monotonic())
        self.changed()

    def trouble(self, reason: str) -> None:
        """The file cannot be used."""
        log.warning("static services: %s; what it said before stays", reason)
        self.roster.report("static", reason)

    # probes

    async def _resolve_and_look(self, entry: Entry) -> Look:
        began = time.monotonic()
        look = await self._resolve_and_ask(entry)
        reason = look.event.reason if isinstance(look.event, ProbeFailed) else look.note
        took = round((time.monotonic() - began) * 1000, 1)
        entry.probes.append(Probed(time.time(), isinstance(look.event, ProbePassed), reason, took))
        return look

    async def _resolve_and_ask(self, entry: Entry) -> Look:
        found = await self._resolver.find(entry.endpoint.host)
        self._move(entry, found.addresses)
        return await self._look(entry)

    def _move(self, entry: Entry, addresses: tuple[str, ...]) -> None:
        if entry.addresses != addresses:
            entry.addresses = addresses
            self._changed.set()

    def _seen(self, entry: Entry, look: Look) -> None:
        before = entry.health.state
        self.roster.handle(entry, look.event, time.monotonic())
        entry.note = look.note
        learned = look.models is not None and entry.learn(look.models)
        if entry.health.state is not before:
            why = f" ({entry.health.reason})" if entry.health.reason else ""
            log.info("%s is %s%s", entry.name, entry.health.state.value, why)
        if isinstance(look.event, ProbePassed):
            self.kv_caches.well(entry, time.monotonic())
        else:
            self.kv_caches.ill(entry)
        if learned or entry.health.state is not before:
            self._changed.set()

    def _obey(self, entry: Entry, command: Command) -> None:
        if isinstance(command, Readmit):
            standing = self._shared.standing(entry.slot)
            self._shared.readmit(entry.slot)
            if command.slowly:
                self._shared.put(entry.slot, self._rules.back(standing, time.monotonic()))
        else:
            self.prober.poke(entry)

    # reports

    def _reported(self, report: Report) -> None:
        """Counts; and whoever a request failed on is looked at, now."""
        self._notices.worker(report)
        self.ledger.add(report)
        self._show(report)
        self.measured.add(report)
        if report.traced and self._traces is not None:
            self._traces.take(report.traced, self._address)
        if not report.failures:
            return
        now = time.monotonic()
        failed = {(each.slot, each.generation): each.outcome for each in report.failures if each.slot != CONTROL_SLOT}
        for entry in list(self.roster.entries.values()):
            if (entry.slot, entry.generation) in failed:
                self.roster.handle(entry, RequestsFailed(), now)
                if (until := self._shared.ejected_until[entry.slot]) > now:
                    self._eject(entry, until, now)

    def _eject(self, entry: Entry, until: float, now: float) -> None:
        before = entry.health.until
        self.roster.handle(entry, Ejected(until), now)
        if entry.health.until > before:
            self._notices.ejected(entry, until - now)

    def _address(self, name: str) -> tuple[str, int] | None:
        entry = self.roster.entries.get(name)
        return (entry.endpoint.host, entry.endpoint.port) if entry is not None else None

    # what goes on by itself

    async def serve(
        self,
        others: Sequence[Callable[[], Coroutine[Any, Any, None]]],
        wire: socket.socket,
        ready: Callable[[], None] | None,
    ) -> None:
        """Take the workers' connections and run the others, as soon as it is this one's turn."""
        if ready is not None:
            await self._informed.wait()
            ready()
        self.measured.recall()
        await asyncio.gather(self.publisher.serve(wire), *[other() for other in others])

    async def keep_publishing(self) -> None:
        """Make a fleet of what changed, a moment later, if it differs from the last one."""
        last, synced = Fleet(version=0, synced=False), False
        while True:
            await self._changed.wait()
            await asyncio.sleep(COALESCE)
            self._changed.clear()
            settled = all(entry.health.state is not State.UNKNOWN for entry in self.roster.entries.values())
            fleet = snapshot(self.roster, self._accesses, last.version)
            if fleet != last or not last.version:
                # Grows from one control to the next, because all processes of a host read the same monotonic clock.
                version = max(last.version + 1, time.monotonic_ns() // 1_000_000)
                last = msgspec.structs.replace(fleet, version=version)
            self.publisher.publish(last, settled=settled and last.synced)
            if last.synced and not synced:
                synced = True
                self.journal.add(Kind.SYNCED, "", f"services known: {len(last.services)}")
            if settled and last.synced:
                self._informed.set()

    async def keep_tidy(self, is_drained: Callable[[Entry], bool]) -> None:
        """End grace periods, forget ejections and counts of what is over, look names up again."""
        resolved = time.monotonic()
        while True:
            await asyncio.sleep(EXPIRE_INTERVAL)
            self._shared.settle()
            now, before = time.monotonic(), self.roster.entries.keys() | set()
            self.roster.expire(now)
            if before != self.roster.entries.keys():
                self.changed()
            entries = list(self.roster.entries.values())
            self._notices.drained([entry for entry in entries if is_drained(entry)])
            self.ledger.forget_except({(entry.slot, entry.generation) for entry in entries})
            self.measured.forget_except(self.roster.entries, now)
            if now - resolved >= self._resolve_interval:
                resolved = now
                await self._resolver.refresh(entry.endpoint.host for entry in entries)
                for entry in entries:
                    if known := self._resolver.known(entry.endpoint.host):
                        self._move(entry, known.addresses)
