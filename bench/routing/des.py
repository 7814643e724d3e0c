"""The fleet on a virtual clock: jobs come, a router chooses, engines work, nobody waits for real.

Owns the clock: the order of what happens, and what becomes of requests whose engine dies. May not live here: what
engines do (`enginehouse.sim.batching`), how anybody chooses (`ours`, `others`), figures (`metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Literal, NamedTuple

from bench.routing.job import Job
from bench.routing.metrics import Record
from bench.routing.others import Router
from enginehouse.sim.batched import Event, Kind, Request
from enginehouse.sim.batching import EngineModel
from enginehouse.sim.constants import EngineConstants

_FIRST, _FINISHED = Kind.FIRST_TOKEN, Kind.FINISHED


class Incident(NamedTuple):
    """Something happens to an engine."""

    at: float
    kind: Literal["killed", "joined", "slowed"]
    engine: int
    factor: float = 1.0
    """How many times as long its steps take from now on (`slowed`)."""


class _UnderWay:
    """A request from its coming to its end."""

    __slots__ = ("asked", "attempts", "done", "engine", "first", "number", "request")

    def __init__(self, number: int, asked: float) -> None:
        self.number = number
        self.asked = asked
        self.first = -1.0
        self.engine = -1
        self.attempts = 0
        self.done = 0
        """Tokens of its answer that died engines have given."""
        self.request: Request


class Fleet:
    """Engines, one router and a load. `run` once."""

    def __init__(
        self,
        jobs: Sequence[Job],
        constants: EngineConstants,
        engines: int,
        router: Router,
        incidents: Sequence[Incident] = (),
    ) -> None:
        """`engines`: those there are at the beginning; one that joins later has a number from there on."""
        self._jobs = jobs
        self._constants = constants
        self._router = router
        self._models: dict[int, EngineModel] = {each: EngineModel(constants) for each in range(engines)}
        self._followers: dict[int, list[int]] = {}
        self._agenda: list[tuple[float, int, int, object]] = []
        self._entries = 0
        self._due: dict[int, float | None] = {}
        self._under_way: dict[int, dict[int, _UnderWay]] = {each: {} for each in range(engines)}
        self.records: list[Record] = []
        self.refused = 0
        for number, job in enumerate(jobs):
            if job.after >= 0:
                self._followers.setdefault(job.after, []).append(number)
            else:
                self._put(job.at, _ASK, number)
        for incident in incidents:
            self._put(incident.at, _INCIDENT, incident)
        router.use(sorted(self._models))

    def run(self) -> list[Record]:
        """Until nothing is left to happen; what became of the requests answered, in the order of their ends."""
        agenda = self._agenda
        while agenda:
            now, kind, _, what = heappop(agenda)
            if kind == _WAKE:
                assert isinstance(what, int)
                if self._due.get(what) == now:
                    self._due[what] = None
                    self._happened(what, self._models[what].advance(now))
                    self._wake(what)
            elif kind == _ASK:
                assert isinstance(what, int)
                self._send(_UnderWay(what, now), now)
            else:
                assert isinstance(what, Incident)
                self._incident(what, now)
        return self.records

    def _put(self, at: float, kind: int, what: object) -> None:
        self._entries += 1
        heappush(self._agenda, (at, kind, self._entries, what))

    def _wake(self, engine: int) -> None:
        """The clock will stop where this engine has something to tell."""
        at = self._models[engine].next_event()
        if at is not None and at != self._due.get(engine):
            self._put(at, _WAKE, engine)
        self._due[engine] = at

    def _send(self, asked: _UnderWay, now: float) -> None:
        job = self._jobs[asked.number]
        engine = asked.engine = self._router.pick(asked.number, job, now)
        asked.attempts += 1
        asked.request = Request(job.tokens + asked.done, job.output - asked.done, job.kept, tag=asked)
        if not self._models[engine].arrive(asked.request, now):
            self._router.failed(asked.number, now)
            self.refused += 1
        else:
            self._under_way[engine][asked.number] = asked
        self._wake(engine)

    def _happened(self, engine: int, events: Sequence[Event]) -> None:
        for kind, at, request, _ in events:
            asked: _UnderWay = request.tag
            if kind == _FIRST:
                if asked.first < 0:
                    asked.first = at
                self._router.first_token(asked.number, at)
            elif kind == _FINISHED:
                del self._under_way[engine][asked.number]
                self._end(asked, at)

    def _end(self, asked: _UnderWay, at: float) -> None:
        job, cached = self._jobs[asked.number], asked.request.cached_tokens or 0
        self._router.ended(asked.number, asked.request.prompt_tokens, cached, at)
        self.records.append(
            Record(asked.asked, asked.first, at, job.tokens, cached, job.output, asked.engine, asked.attempts)
        )
        for number in self._followers.get(asked.number, ()):
            self._put(at + self._jobs[number].at, _ASK, number)

    def _incident(self, what: Incident, now: float) -> None:
        if what.kind == "slowed":
            self._models[what.engine].slow_down(what.factor, now)
            self._wake(what.engine)
        elif what.kind == "joined":
            self._models[what.engine] = EngineModel(self._constants)
            self._under_way[what.engine] = {}
            self._router.use(sorted(self._models))
        else:
            model = self._models.pop(what.engine)
            self._happened(what.engine, model.advance(now))
            self._due.pop(what.engine, None)
            lost = self._under_way.pop(what.engine)
            for asked in lost.values():
                self._router.failed(asked.number, now)
            self._router.use(sorted(self._models))
            for asked in lost.values():
                # What the client has seen of the answer, another engine goes on with.
                asked.done = min(self._jobs[asked.number].output - 1, asked.done + asked.request.generated)
                self._send(asked, now)


_INCIDENT, _WAKE, _ASK = range(3)
