"""The run: for every case its contestants started, measured in turn, and ended.

Owns the order of things, and what is said and written while it goes. May not live here: what a contestant or a case
is, how to measure.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.common import cpu
from bench.common.machine import portable, shortened
from bench.common.plan import Progress, Turn, turns, words
from bench.common.processes import BenchError, Processes
from bench.contestants.base import Contestant, Started
from bench.proxy.cases import Case
from bench.proxy.measure import Figures
from bench.proxy.results import Results
from bench.proxy.stage import Settings, Stage, find_model

#: Characters of a contestant's output that are shown where something went wrong.
_SHOWN = 600
#: Seconds that a measurement takes besides its load, starting all contestants of a case, and starting one anew.
_AROUND, _START, _START_FRESH = 1.0, 12.0, 6.0
#: Above so many services all must be quiet for so many seconds before anybody is measured; the longest wait for that.
_FEW, _QUIET, _SETTLED = 10, 6.0, 120.0
#: Seconds in which the others must be quiet before a measurement; the longest wait for that.
_PAUSE, _LONGEST_PAUSE = 0.2, 15.0


class Runner:
    """Runs cases and writes what it finds."""

    def __init__(
        self, settings: Settings, contestants: Mapping[str, Contestant], results: Results, scratch: Path
    ) -> None:
        """`scratch`: an empty folder."""
        self._scratch = scratch
        self._settings = settings
        self._contestants = contestants
        self._results = results
        self._progress = Progress(0.0)
        self._case_began = 0.0

    def run(self, cases: Sequence[Case]) -> None:
        """All of them."""
        self._progress = Progress(sum(self.expected(case) for case in cases))
        say(f"{len(cases)} cases, {self._settings.runs} runs each, about {words(self._progress.left)}")
        for case in cases:
            present = [name for name in case.contestants if name in self._contestants]
            say(f"{case.name}: {', '.join(present)}")
            self._case_began = began = time.monotonic()
            if case.kind == "find":
                self._alone(case, present)
            else:
                self._proxied(case, present)
            self._progress.done(self.expected(case), time.monotonic() - began)
            say("  " + "; ".join(medians(case, self._results.data["measurements"])))

    def expected(self, case: Case) -> float:
        """Seconds a case takes, roughly."""
        patience = [self._contestants[name].patience for name in case.contestants if name in self._contestants]
        load = max(self._settings.seconds, case.seconds) * sum(patience)
        around = self._settings.warm + (_START_FRESH if case.fresh else _AROUND)
        return self._settings.runs * (load + len(patience) * around) + (0 if case.kind == "find" else _START)

    def _alone(self, case: Case, names: Sequence[str]) -> None:
        """A case without a proxy."""
        failed: set[str] = set()
        for turn in turns(case.name, names, self._settings.runs, self._settings.seed):
            with self._concerning(case, turn.contestant, failed):
                self._record(case, turn, find_model(case, self._settings))

    def _proxied(self, case: Case, names: Sequence[str]) -> None:
        directory = self._scratch / case.name
        directory.mkdir(parents=True)
        failed: set[str] = set()
        with Processes(directory) as processes, ExitStack() as standing:
            stage = Stage(case, self._settings, processes, directory)
            started: dict[str, Started] = {}
            for name in () if case.fresh else names:
                with self._concerning(case, name, failed):
                    started[name] = self._start(case, name, stage, standing)
            self._settle(case, started)
            for turn in turns(case.name, names, self._settings.runs, self._settings.seed):
                if turn.contestant not in failed:
                    self._status(f"{case.name}, run {turn.run} of {self._settings.runs}: {turn.contestant}")
                    with self._concerning(case, turn.contestant, failed):
                        self._turn(case, turn, stage, started)
        shutil.rmtree(directory)  # access logs of gigabytes

    def _settle(self, case: Case, started: Mapping[str, Started]) -> None:
        """With many services some are busy long after they listen: sglang-router for a minute with a thousand."""
        if case.services > _FEW:
            self._status(f"{case.name}: waiting until all are ready")
            cpu.wait_until_quiet([root for one in started.values() for root in one.roots], _QUIET, _SETTLED)

    @contextmanager
    def _concerning(self, case: Case, name: str, failed: set[str]) -> Iterator[None]:
        """What goes wrong inside ends this contestant's part in this case, and nothing else."""
        try:
            yield
        except BenchError as error:
            failed.add(name)
            say(f"  {name} takes no further part in {case.name}: {error}")
            self._results.data["failed"].append({"case": case.name, "contestant": name, "why": portable(str(error))})

    def _start(self, case: Case, name: str, stage: Stage, standing: ExitStack) -> Started:
        """Start a contestant that stands until `standing` is left, and note what it is."""
        self._status(f"{case.name}: starting {name}")
        contestant = self._contestants[name]
        started = standing.enter_context(stage.start(contestant))
        ports = stage.ports(started)
        facts = {
            "version": contestant.version(),
            "command": portable(" ".join([*started.process.pinned, *started.command]), ports),
            "counted": contestant.counted,
            "routing": contestant.routing,
        }
        configs = {file: shortened(portable(text, ports)) for file, text in started.configs.items()}
        self._results.describe(name, case.name, facts, configs)
        return started

    def _turn(self, case: Case, turn: Turn, stage: Stage, started: Mapping[str, Started]) -> None:
        """One contestant measured once."""
        with ExitStack() as standing:
            if case.fresh:
                started = {turn.contestant: self._start(case, turn.contestant, stage, standing)}
            mine = started[turn.contestant]
            idle_roots = [root for name, other in started.items() if name != turn.contestant for root in other.roots]
            # Whoever was measured last may still work on what was under way when the load ended.
            cpu.wait_until_quiet(idle_roots, _PAUSE, _LONGEST_PAUSE)
            others = cpu.Meter(idle_roots)
            began = time.monotonic()
            figures = stage.measure(mine, self._contestants[turn.contestant].patience)
            idle = others.stop().cpu_ns / 1e9 / (time.monotonic() - began)
            mine.process.require_alive()
            self._record(case, turn, {**figures, "others_cores": round(idle, 5)})
            if figures["errors"]:
                say(f"    it printed: …{mine.process.output()[-_SHOWN:]}")

    def _record(self, case: Case, turn: Turn, figures: Figures) -> None:
        self._results.data["measurements"].append({"case": case.name, **turn._asdict(), "unit": case.unit, **figures})
        self._results.write()
        further = "".join(
            f", {name} {figures[name]}"
            for name in ("p50_ms", "p99_ms", "p50_us", "p99_us", "stalls", "bytes_per_stream")
            if name in figures
        )
        wrong = f"  NOT A MEASUREMENT: {figures['errors']} errors" if figures["errors"] or not figures["units"] else ""
        say(
            f"  {turn.run}.{turn.position} {turn.contestant:14} {figures['cpu_us_per_unit']:>10} µs CPU a {case.unit},"
            f" {figures['per_second']:>9} /s{further}{wrong}"
        )

    def _status(self, text: str) -> None:
        """A line that the next one overwrites; nothing where nobody looks."""
        if sys.stdout.isatty():
            left = max(0.0, self._progress.left - (time.monotonic() - self._case_began))
            print(f"{text}; about {words(left)} left\033[K\r", end="", flush=True)


def medians(case: Case, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each contestant needed in a case, by its runs without errors, and how many times that is of nginx'."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["case"] == case.name and not row["errors"] and row["cpu_us_per_unit"]:
            found.setdefault(row["contestant"], []).append(row["cpu_us_per_unit"])
    middle = {name: statistics.median(values) for name, values in found.items()}
    yardstick = middle.get("nginx", 0.0)
    return [
        f"{name} {value:.2f} µs" + (f" ({value / yardstick:.2f} × nginx)" if yardstick and name != "nginx" else "")
        for name, value in sorted(middle.items(), key=lambda pair: pair[1])
    ]


def say(text: str) -> None:
    """One line."""
    print(text, end="\033[K\n" if sys.stdout.isatty() else "\n", flush=True)
