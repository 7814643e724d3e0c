"""The run: for every case all contestants started, measured in turn, and ended.

Owns the order of things and what is printed. May not live here: what a contestant or a case is, how to measure.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.proxy import backend, measure, traffic, wrk
from bench.proxy.cases import Case
from bench.proxy.contestants.base import Contestant, Job, Started, until_it_answers
from bench.proxy.install import SCRATCH
from bench.proxy.measure import Bench, Figures
from bench.proxy.plan import Progress, Turn, turns, words
from bench.proxy.processes import Processes
from bench.proxy.results import Results, portable, shortened
from bench.proxy.wrk import Load

#: A contestant must serve by then. LiteLLM imports for ten seconds and more.
_READY = 120.0


class Settings(NamedTuple):
    """How often, how long, where."""

    runs: int
    seconds: int
    warm: int
    seed: int
    router_core: int
    load_core: int


class Runner:
    """Runs cases and writes what it finds."""

    def __init__(self, settings: Settings, contestants: Mapping[str, Contestant], results: Results) -> None:
        self._settings = settings
        self._contestants = contestants
        self._results = results
        self._began = time.monotonic()
        self._scratch = SCRATCH / "run"
        shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, cases: Sequence[Case]) -> None:
        """All of them."""
        each = self._settings.seconds + self._settings.warm + 0.5
        progress = Progress(sum(len(self._present(case)) * self._settings.runs * each for case in cases))
        for case in cases:
            self._say(f"{case.name}: {', '.join(self._present(case))}")
            self._case(case, progress, each)

    def _case(self, case: Case, progress: Progress, each: float) -> None:
        directory = self._scratch / case.name
        directory.mkdir(parents=True)
        both = (self._settings.router_core, self._settings.load_core)
        load_cores = () if case.name.startswith("workers-") else both[1:]
        names = traffic.models(case.models)
        with Processes(directory) as processes:
            _, port = backend.start(processes, names, load_cores, directory / "backend")
            job = Job(
                services=traffic.services(case.services, port, names),
                workers=case.workers,
                cores=both[: case.workers],
                directory=directory,
                streaming=case.kind in ("stream", "paced"),
            )
            bodies = traffic.bodies(case.body, names, case.bodies, self._settings.seed)
            load = wrk.prepare(directory / "bodies", bodies, case.connections, case.close)
            started = {name: self._start(name, case, job, processes) for name in self._present(case)}
            bench = Bench(self._settings.seconds, self._settings.warm, load_cores)
            for turn in turns(case.name, list(started), self._settings.runs, self._settings.seed):
                at = time.monotonic()
                self._turn(case, turn, bench, load, started)
                progress.done(each, time.monotonic() - at)
                self._say_status(f"{case.name} run {turn.run} of {self._settings.runs}", progress)

    def _turn(self, case: Case, turn: Turn, bench: Bench, load: Load, started: Mapping[str, Started]) -> None:
        """One contestant measured once."""
        mine = started[turn.contestant]
        others = [other.process.pid for name, other in started.items() if name != turn.contestant]
        figures = measure.json_requests(bench, load, mine.url, [mine.process.pid], others)
        mine.process.require_alive()
        self._record(case, turn, figures)

    def _start(self, name: str, case: Case, job: Job, processes: Processes) -> Started:
        contestant = self._contestants[name]
        directory = job.directory / name
        directory.mkdir()
        started = contestant.start(processes, job._replace(directory=directory))
        until_it_answers(started, traffic.models(case.models), _READY)
        ports = {started.port, job.services[0].port}
        self._results.describe(
            name,
            case.name,
            {
                "version": contestant.version(),
                "command": portable(" ".join([*started.process.pinned, *started.command]), ports),
                "counted": contestant.counted,
            },
            {file: shortened(portable(text, ports)) for file, text in started.configs.items()},
        )
        return started

    def _record(self, case: Case, turn: Turn, figures: Figures) -> None:
        head: Figures = {"case": case.name, **turn._asdict(), "unit": case.unit}
        if figures["errors"] or not figures["units"]:
            self._results.data["failed"].append({**head, **figures})
        else:
            self._results.data["measurements"].append({**head, **figures})
        self._results.write(time.monotonic() - self._began)
        failed = f", NOT A MEASUREMENT: {figures['errors']} errors" if figures["errors"] else ""
        self._say(
            f"  {case.name:14} {turn.run}.{turn.position} {turn.contestant:14}"
            f" {figures['cpu_us_per_unit']:9} µs CPU a {case.unit}, {figures['per_second']:9} /s,"
            f" p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms{failed}"
        )

    def _present(self, case: Case) -> list[str]:
        return [name for name in case.contestants if name in self._contestants]

    def _say(self, text: str) -> None:
        end = "\033[K\n" if sys.stdout.isatty() else "\n"
        print(text, end=end, flush=True)

    def _say_status(self, text: str, progress: Progress) -> None:
        """A line that the next one overwrites; nothing where nobody looks."""
        if sys.stdout.isatty():
            print(f"{text}, about {words(progress.left)} left\033[K\r", end="", flush=True)
