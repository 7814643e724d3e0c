"""Who is in the house: what the sources say, merged into one entry per service, and the snapshot made of them.

Owns `Roster`: both sources' last word, the grace period, slots, rejected records, every model ever seen; and
`snapshot()`, which turns entries into a `Fleet`. Synchronous, without I/O; times are arguments (monotonic seconds).
May not live here: talking to a registry (`discovery`), looking at engines (`prober`), sending fleets (`publisher`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from enginehouse.control.access import Accesses
from enginehouse.control.events import Kind, Tell, kind_of
from enginehouse.control.slots import Slots, generation_of
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.record import DRAINING, Record, cache_type, continues, endpoint, is_inference, model_objects
from enginehouse.machines.health import Command, Confirmed, Event, Health, Readmit, State, Withdrawn

Source = Literal["static", "registry"]
#: Names of models kept although nobody serves them any more.
MAX_KNOWN_MODELS = 20_000
#: Rejected records that are listed; more are left out.
MAX_REJECTED = 1000
#: Looks at a service that are remembered.
MAX_PROBES = 30
_WHERE = {"static": "in the static file", "registry": "in the registry"}


class Rejected(msgspec.Struct, frozen=True):
    """A record, or a whole source, that is not used, and why."""

    name: str
    source: Source
    reason: str


class Probed(msgspec.Struct, frozen=True):
    """What one look at a service found."""

    time: float
    """Unix seconds."""
    ok: bool
    reason: str
    """Why it failed, or what its owner should know; "" for nothing."""
    ms: float
    """How long it took."""


class Entry:
    """One service: what was registered, and what control found out about it. Another place makes another entry."""

    __slots__ = (
        "addresses",
        "ask_kv_at",
        "endpoint",
        "generation",
        "health",
        "kv_tokens",
        "learned",
        "model_objects",
        "models",
        "note",
        "probes",
        "record",
        "slot",
        "source",
    )

    def __init__(self, record: Record, source: Source, slot: int, generation: int, health: Health) -> None:
        self.slot = slot
        self.generation = generation
        self.health = health
        self.addresses: tuple[str, ...] = ()
        """Checked IP addresses of its host, empty until looked up."""
        self.learned: tuple[dict[str, Any], ...] = ()
        """Objects of its own `/v1/models`, where its record lists none."""
        self.kv_tokens = 0
        """What the engine says that its KV cache holds; 0: nothing."""
        self.ask_kv_at = 0.0
        """When it is asked for that again. Monotonic seconds."""
        self.note = ""
        """Something its owner should know although it is up, "" for nothing."""
        self.probes: deque[Probed] = deque(maxlen=MAX_PROBES)
        """What the last looks at it found."""
        self.describe(record, source)

    def describe(self, record: Record, source: Source) -> None:
        """Take over a new description of the same service."""
        self.record, self.source = record, source
        self.endpoint = endpoint(record)
        self.learn(self.learned)

    def learn(self, objects: tuple[dict[str, Any], ...]) -> bool:
        """Take over what its `/v1/models` lists; what its record lists goes first. True if that changed anything."""
        self.learned = objects
        before = getattr(self, "model_objects", None)
        self.model_objects = model_objects(self.record) or objects
        self.models = tuple([str(model["id"]) for model in self.model_objects])
        return self.model_objects != before

    @property
    def name(self) -> str:
        """Its name, unique in the house."""
        return self.record.name

    @property
    def up(self) -> bool:
        """May it get requests?"""
        return self.health.up and bool(self.addresses)


@dataclass(slots=True)
class _SourceState:
    """The last word of one source."""

    listed: dict[str, Record] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    answered: bool = False
    missing_since: dict[str, float] = field(default_factory=dict)

    @property
    def troubled(self) -> bool:
        """Can the source as a whole not be used?"""
        return any(not item.name for item in self.rejected)


class Roster:
    """All services by name. `obey(entry, command)` carries out what a health machine commands."""

    def __init__(
        self,
        sources: Iterable[Source],
        max_errors: int,
        grace: float,
        obey: Callable[[Entry, Command], None],
        tell: Tell = lambda *_: None,
    ) -> None:
        """`sources` that are configured; `grace`: seconds a service stays after the registry has lost it. `tell` hears
        what happens."""
        self.entries: dict[str, Entry] = {}
        self._sources: dict[Source, _SourceState] = {source: _SourceState() for source in sources}
        self._max_errors = max_errors
        self._grace = grace
        self._obey = obey
        self._tell = tell
        self._slots = Slots()
        self._unused: list[Rejected] = []
        self._known: set[str] = set()
        self._known_sorted: tuple[str, ...] = ()

    @property
    def synced(self) -> bool:
        """Has every configured source answered once?"""
        return all(source.answered for source in self._sources.values())

    @property
    def rejected(self) -> list[Rejected]:
        """Everything that was offered and is not used, at most `MAX_REJECTED`."""
        refused = [item for source in self._sources.values() for item in source.rejected]
        return [*self._unused, *refused][:MAX_REJECTED]

    def known_models(self) -> tuple[str, ...]:
        """Every model seen up to now, sorted."""
        for entry in self.entries.values():
            if len(self._known) < MAX_KNOWN_MODELS:
                self._known.update(entry.models)
        if len(self._known) != len(self._known_sorted):
            self._known_sorted = tuple(sorted(self._known))
        return self._known_sorted

    # what the sources say

    def replace(self, source: Source, records: Iterable[Record], rejected: Iterable[Rejected], now: float) -> None:
        """The source's whole list. What a registry no longer lists stays for the grace period; a file is obeyed."""
        state = self._sources[source]
        new = {record.name: record for record in records}
        if state.troubled:
            self._tell(Kind.SOURCE_BACK, "", source)
        state.rejected, state.answered = tuple(rejected)[:MAX_REJECTED], True
        gone = state.listed.keys() - new.keys() if source == "registry" else set()
        for name in sorted(gone - state.missing_since.keys()):
            self._tell(Kind.MISSING, name, f"the registry does not list it; it stays for {self._grace:g} s")
        for name in sorted(state.missing_since.keys() & new.keys()):
            self._tell(Kind.FOUND, name, "")
        state.missing_since = {name: state.missing_since.get(name, now) for name in gone}
        state.listed = {**{name: state.listed[name] for name in gone}, **new}
        self.expire(now)

    def put(self, record: Record, now: float) -> None:
        """The registry was told this a moment ago. Where a babysitter did, it has seen the engine answer."""
        state, name = self._sources["registry"], record.name
        state.listed[name] = record
        if state.missing_since.pop(name, None) is not None:
            self._tell(Kind.FOUND, name, "")
        state.rejected = tuple([r for r in state.rejected if r.name != name])
        self._merge(now)
        entry = self.entries.get(name)
        if entry is not None and entry.record is record and record.status == "running" and is_looked_after(record):
            self.handle(entry, Confirmed(), now)

    def reject(self, item: Rejected, now: float) -> None:
        """The registry passed on a record that cannot be used, perhaps in place of one that could."""
        state = self._sources["registry"]
        state.rejected = (*[r for r in state.rejected if r.name != item.name], item)[-MAX_REJECTED:]
        self._tell(Kind.REJECTED, item.name, item.reason)
        self._drop(item.name, now, "it was registered anew in a way that cannot be used")

    def delete(self, name: str, now: float) -> None:
        """Its own babysitter took it back: it gets no more requests from now on."""
        state = self._sources["registry"]
        state.rejected = tuple([r for r in state.rejected if r.name != name])
        self._drop(name, now, "it was taken back, as a babysitter does that stops or whose engine ended")

    def lose(self, name: str, now: float) -> None:
        """It fell silent at the registry, which says little about the engine: the grace period begins."""
        state = self._sources["registry"]
        if name in state.listed and name not in state.missing_since:
            state.missing_since[name] = now
            self._tell(Kind.MISSING, name, f"its heartbeats at the registry ended; it stays for {self._grace:g} s")

    def report(self, source: Source, reason: str) -> None:
        """The source cannot be used as it is now, or can again (""); what it said before stays."""
        state = self._sources[source]
        trouble = (Rejected("", source, reason),) if reason else ()
        if bool(trouble) is not state.troubled:
            self._tell(
                Kind.SOURCE_LOST if reason else Kind.SOURCE_BACK, "", f"{source}: {reason}" if reason else source
            )
        state.rejected = (*trouble, *[r for r in state.rejected if r.name])

    def expire(self, now: float) -> None:
        """Remove what has been missing for longer than the grace period."""
        over = f"the registry did not know it for {self._grace:g} s"
        why: dict[str, str] = {}
        for state in self._sources.values():
            for name in [name for name, since in state.missing_since.items() if now - since >= self._grace]:
                del state.missing_since[name], state.listed[name]
                why[name] = over
        self._merge(now, why)

    def missing_since(self, entry: Entry) -> float | None:
        """Since when its registry has not known it; None while it does."""
        return self._sources[entry.source].missing_since.get(entry.name)

    def handle(self, entry: Entry, event: Event, now: float) -> None:
        """Give an event to a service's health machine and carry out its commands."""
        health = entry.health
        before = health.state
        commands = health.handle(event, now)
        if (kind := kind_of(before, health.state, entry.record.status == DRAINING)) is not None:
            self._tell(kind, entry.name, health.reason)
        for command in commands:
            self._obey(entry, command)

    # merging

    def _drop(self, name: str, now: float, why: str) -> None:
        state = self._sources["registry"]
        state.listed.pop(name, None)
        state.missing_since.pop(name, None)
        self._merge(now, {name: why})

    def _merge(self, now: float, why: Mapping[str, str] = MappingProxyType({})) -> None:
        """Make `entries` what the sources say: static first, of the registry what may get prompts. `why`, by name:
        reasons of those that are gone."""
        self._unused = []
        wanted: dict[str, tuple[Source, Record]] = {}
        if (static := self._sources.get("static")) is not None:
            wanted = {name: ("static", record) for name, record in static.listed.items()}
        if (registry := self._sources.get("registry")) is not None:
            for name, record in registry.listed.items():
                if name in wanted:
                    self._unused.append(Rejected(name, "registry", "the static file has a service of this name"))
                elif is_inference(record):
                    wanted[name] = ("registry", record)
        for name in sorted(self.entries.keys() - wanted.keys()):
            self._leave(name, why.get(name) or f"no longer {_WHERE[self.entries[name].source]}")
        for name, (source, record) in wanted.items():
            entry = self.entries.get(name)
            if entry is None or entry.record is not record or entry.source != source:
                self._enter(name, source, record, now)

    def _enter(self, name: str, source: Source, record: Record, now: float) -> None:
        """Keep the entry of the same service at the same place with its health, or begin a new one."""
        at = endpoint(record)
        generation = generation_of(name, str(at.tls), at.host, str(at.port), at.prefix)
        entry = self.entries.get(name)
        if entry is not None and entry.generation != generation:
            self._leave(name, "another place is told for it")
            entry = None
        if entry is not None:
            entry.describe(record, source)
        elif (slot := self._slots.take(name)) is not None:
            entry = self.entries[name] = Entry(record, source, slot, generation, Health(self._max_errors))
            self._tell(Kind.JOINED, name, f"{_WHERE[source]}, at {record.url}")
        else:
            self._unused.append(Rejected(name, source, "the house is full: every slot is taken"))
            return
        withdrawn = entry.health.state is State.WITHDRAWN
        if record.status != "running" and not withdrawn:
            self.handle(entry, Withdrawn(record.status), now)
        elif record.status == "running" and withdrawn:
            self.handle(entry, Confirmed(), now)

    def _leave(self, name: str, why: str) -> None:
        """Its slot is clean for whoever gets it next."""
        self._tell(Kind.LEFT, name, why)
        self._obey(self.entries.pop(name), Readmit())
        self._slots.free(name)


def is_looked_after(record: Record) -> bool:
    """Does a babysitter stand behind it? One registers an engine only after the engine has answered it."""
    return bool(record.metadata.get("babysitter"))


def snapshot(roster: Roster, accesses: Accesses, version: int) -> Fleet:
    """The fleet as the workers get it, services sorted by name."""
    services = [_service(entry, accesses) for _, entry in sorted(roster.entries.items())]
    return Fleet(version=version, synced=roster.synced, services=tuple(services), known_models=roster.known_models())


def _service(entry: Entry, accesses: Accesses) -> Service:
    at, access = entry.endpoint, accesses.of(entry.name)
    return Service(
        name=entry.name,
        slot=entry.slot,
        generation=entry.generation,
        host=at.host,
        addresses=entry.addresses,
        port=at.port,
        tls=at.tls,
        ca_file=access.ca_file,
        prefix=at.prefix,
        api_key=access.api_key,
        models=entry.models,
        weight=entry.record.weight,
        capacity=entry.record.metadata.get("capacity") or 0,
        kv_tokens=entry.record.metadata.get("kv_tokens") or entry.kv_tokens,
        cache_type=cache_type(entry.record),
        continues=continues(entry.record, entry.model_objects),
        up=entry.up,
    )
