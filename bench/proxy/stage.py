"""What stands while a case is measured: backend, load, and the contestants that were started.

Owns `Stage`: which backend and load a case needs, where everything runs, starting a contestant, one measurement of it.
May not live here: order and repetition (`run`), what a measurement is (`measure`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.common import cpu, traffic
from bench.common import processes as system
from bench.common.processes import Processes
from bench.contestants.base import Contestant, Job, Started, until_it_answers
from bench.proxy import backend, measure, wrk
from bench.proxy.cases import Case
from bench.proxy.measure import Bench, Figures, Target

#: A contestant must serve by then. LiteLLM imports for ten seconds and more.
_READY = 60.0


class Settings(NamedTuple):
    """How often, how long, where."""

    runs: int
    seconds: int
    warm: int
    seed: int
    router_core: int
    load_core: int
    soak_minutes: float


class Stage:
    """For one case, in one folder."""

    def __init__(self, case: Case, settings: Settings, processes: Processes, directory: Path) -> None:
        self._case = case
        self._processes = processes
        self._names = traffic.models(case.models)
        both = (settings.router_core, settings.load_core)
        # Two workers need both cores: there load and backend run wherever there is room.
        load_cores = () if case.unpinned else both[1:]
        self._bench = Bench(max(settings.seconds, case.seconds), settings.warm, load_cores, settings.seed)
        if case.streaming:
            self._backend, port = backend.start_streaming(processes, self._names, load_cores)
        else:
            self._backend, port = backend.start(processes, self._names, load_cores, directory / "backend")
        self._job = Job(
            services=traffic.services(case.services, port, self._names),
            workers=case.workers,
            cores=both[: case.workers],
            directory=directory,
            streaming=case.streaming,
            backend=self._backend,
        )
        bodies = traffic.bodies(case.body, self._names, case.bodies, settings.seed)
        self._load = wrk.prepare(directory / "bodies", bodies, case.connections, case.how)

    @contextmanager
    def start(self, contestant: Contestant) -> Iterator[Started]:
        """A contestant that serves, ended at the end. Raises `BenchError`."""
        directory = self._job.directory / contestant.name
        directory.mkdir(exist_ok=True)
        before = len(self._processes.running)
        try:
            started = contestant.start(self._processes, self._job._replace(directory=directory))
            until_it_answers(started, self._names, _READY)
            yield started
        finally:
            for process in self._processes.running[before:]:
                self._processes.stop(process)

    def ports(self, started: Started) -> set[int]:
        """Numbers that mean nothing outside this run."""
        return {started.port, *started.further_ports, self._job.services[0].port}

    def measure(self, started: Started, patience: int) -> Figures:
        """Once, with load for `patience` times as long as usual."""
        case, bench = self._case, self._bench._replace(seconds=self._bench.seconds * patience)
        target = Target(started.url, started.roots)
        if case.kind == "latency":
            return measure.one_by_one(bench, self._load, target)
        if case.kind == "json":
            return measure.requests(bench, self._load, target)
        empty = 0
        if case.fresh:
            # What a process takes for its first requests is not what a stream takes.
            few = case._replace(connections=64, chunks=20, interval=0.0)
            measure.streams(bench._replace(seconds=1, warm=0), few, self._names, target, 0)
            empty = cpu.Meter(target.roots).stop().rss
        return measure.streams(bench, case, self._names, target, empty)


def find_model(case: Case, settings: Settings) -> Figures:
    """How long finding the model takes in a body of this kind, without any proxy around it."""
    words = [sys.executable, "-m", "bench.proxy.find_model", "--kind", case.text, "--size", str(case.body)]
    words += ["--seconds", str(settings.seconds), "--seed", str(settings.seed)]
    said: Mapping[str, float] = msgspec.json.decode(
        system.run(words, (settings.router_core,), settings.seconds + 60), type=dict[str, float]
    )
    return {name: int(value) if value == int(value) else round(value, 3) for name, value in said.items()}
