"""The run: row after row, with progress, and the table at the end.

Owns the order of things and what is said meanwhile. May not live here: a single row (`row`, `overload`), the page.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.chaos import asks, overload, real, row
from bench.chaos.asks import Ask, Expected
from bench.chaos.cases import BY_NAME, Case
from bench.chaos.row import Work
from bench.chaos.stage import MODEL, TOKENS, Engine, Stage, simulated
from bench.common.machine import portable
from bench.common.plan import Progress, words
from bench.common.processes import BenchError, Processes
from bench.common.results import Results

#: Every row by name, in the order of the table; those with real engines.
NAMES = (*BY_NAME, overload.NAME)
REAL_NAMES = (*real.BY_NAME,)
#: Seconds of a row besides the fault.
AROUND = 9.0
#: Requests a second: of every kind, and long streams.
RATE, STREAM_RATE = 40.0, 15.0
#: Different requests of a load, and the tokens of each.
ASKS, STREAM_TOKENS = 20, 60


class Runner:
    """Runs rows and writes what they find. `scratch`: an empty folder; `real_engines`: not simulated ones."""

    def __init__(self, results: Results, scratch: Path, seconds: float, real_engines: bool = False) -> None:
        self._results = results
        self._scratch = scratch
        self._seconds = seconds
        self._real = real_engines
        self._cases = real.BY_NAME if real_engines else BY_NAME
        self._known: dict[Ask, Expected] = {}
        self._progress = Progress(0.0)
        self._began = 0.0

    async def run(self, names: Sequence[str]) -> bool:
        """All of them. Whether everything held."""
        expected = self._seconds + AROUND
        self._progress = Progress(expected * len(names))
        say(f"{len(names)} rows, about {words(self._progress.left)}")
        for name in names:
            self._began = time.monotonic()
            found = await self._row(name)
            self._results.add(found)
            say(line(found))
            for problem in found["problems"]:
                say(f"    {problem}")
            self._progress.done(expected, time.monotonic() - self._began)
        self._results.finish()
        rows = self._results.data["rows"]
        for text in table(rows):
            say(text)
        return all(found["ok"] for found in rows)

    async def _row(self, name: str) -> dict[str, Any]:
        """One row; where it cannot be run, that with the reason."""
        status = self._status(name)
        folder = self._folder(name)
        case = self._cases.get(name)
        try:
            if case is None:
                return await overload.run(folder, self._seconds, await self._mixed(), status)
            if obstacle := case.obstacle():
                return skipped(name, case.group, case.title, obstacle)
            return await row.run(case, folder, self._seconds, partial(self._work, case), status)
        except BenchError as error:
            group, title = (case.group, case.title) if case else (overload.GROUP, overload.TITLE)
            why = portable(str(error))
            return {**skipped(name, group, title, why), "ok": False, "problems": [why]}

    def _folder(self, name: str) -> Path:
        folder = self._scratch / name
        folder.mkdir(parents=True)
        return folder

    async def _work(self, case: Case, stage: Stage) -> Work:
        if self._real:
            return await real.work(case, stage)
        if not case.streams:
            return await self._mixed()
        wanted = asks.streams(MODEL, ASKS, STREAM_TOKENS)
        return Work(wanted, await self._answers(wanted), STREAM_RATE)

    async def _mixed(self) -> Work:
        wanted = asks.mixed(MODEL, ASKS, TOKENS)
        return Work(wanted, await self._answers(wanted), RATE)

    async def _answers(self, wanted: Sequence[Ask]) -> list[Expected]:
        """What an engine says that nobody disturbs, asked directly."""
        missing = [ask for ask in wanted if ask not in self._known]
        if missing:
            with Processes(self._scratch) as processes:
                engine = Engine(processes, "undisturbed", simulated(ttft=0, time_per_token=0))
                await engine.start()
                self._known.update(zip(missing, await asks.undisturbed(engine.port, missing), strict=True))
        return [self._known[ask] for ask in wanted]

    def _status(self, name: str) -> Callable[[str], None]:
        """Writes a line that the next one overwrites; nothing where nobody looks."""

        def write(text: str) -> None:
            if sys.stdout.isatty():
                left = max(0.0, self._progress.left - (time.monotonic() - self._began))
                print(f"{name}: {text}; about {words(left)} left\033[K\r", end="", flush=True)

        return write


def skipped(name: str, group: str, title: str, why: str) -> dict[str, Any]:
    """A row that could not be run here."""
    return {"case": name, "group": group, "title": title, "skipped": why, "problems": [], "ok": True}


def line(found: Mapping[str, Any]) -> str:
    """A row in one line, said as soon as it is there."""
    if "skipped" in found:
        return f"  {found['case']:16} not run: {found['skipped'].splitlines()[0]}"
    told = [f"{found['right']}/{found['sent']} right", f"{found['refused'] + found['broken_off']} honest errors"]
    told.append(f"{found['lost']} lost, {found['wrong']} wrong")
    told += [f"{found['repeated']} repeated"] * bool(found["repeated"])
    told += [f"{found['resumed']} resumed"] * bool(found["resumed"])
    if "goodput" in found:
        told.append(f"goodput {found['goodput']}/s, before {found['goodput_before']}/s")
    mark = "ok  " if found["ok"] else "FAIL"
    return f"  {found['case']:16} {mark} " + "; ".join(told)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table for a terminal, and what was not right in each row that failed."""
    head = ("", "sent", "right", "honest error", "lost or wrong", "worst wait", "noticed after", "recovered after")
    cells = [head]
    for found in rows:
        if "skipped" not in found:
            honest, bad = found["refused"] + found["broken_off"], found["lost"] + found["wrong"]
            times = (found["worst_wait"], found["noticed_after_s"], found["recovered_after_s"])
            cells.append(
                (found["case"], *map(str, (found["sent"], found["right"], honest, bad)), *map(_seconds, times))
            )
    widths = [max(len(each[at]) for each in cells) for at in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(each, widths, strict=True)).rstrip() for each in cells]
    for found in rows:
        for kind in ("lost", "wrong"):
            for why, count in found.get("samples", {}).get(kind, {}).items():
                lines.append(f"  {found['case']}: {kind}, {count} times: {why}")
    failed = [found["case"] for found in rows if not found["ok"]]
    skipped_ones = [found["case"] for found in rows if found["ok"] and "skipped" in found]
    held = len(rows) - len(failed) - len(skipped_ones)
    lines.append(f"{held} rows hold, {len(failed)} fail{': ' * bool(failed)}{', '.join(failed)}")
    if skipped_ones:
        lines.append(f"not run here: {', '.join(skipped_ones)}")
    return lines


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def say(text: str) -> None:
    """One line."""
    print(text, end="\033[K\n" if sys.stdout.isatty() else "\n", flush=True)
