"""One row: steady load, the fault injected, removed, recovered from, and everything accounted for.

Owns the order of these things, `Watcher`, and the figures of a row. May not live here: the table (`cases`), progress
and files (`run`, `results`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.chaos.asks import Ask, Expected
from bench.chaos.cases import Case
from bench.chaos.faults import Fault
from bench.chaos.load import Account, Load, Seen, account
from bench.chaos.processes import until
from bench.chaos.stage import Stage
from bench.chaos.verdict import Kind, Shape
from bench.common.processes import BenchError, Processes

#: Seconds of load before the fault, after the recovery, and at most until the recovery.
BEFORE, AFTER, RECOVERY = 2.0, 1.5, 40.0
#: Seconds between two looks of the watcher.
LOOK = 0.1
#: Seconds until nothing may be in flight any more, when the load has ended.
IDLE = 10.0


class Work(NamedTuple):
    """What a load asks, and what is right."""

    asks: Sequence[Ask]
    right: Sequence[Expected]
    rate: float
    shape: Shape | None = None
    """Where texts may differ: what each answer must be all the same, see `judge`."""


class Times(NamedTuple):
    """When what happened, in monotonic seconds; None for what did not."""

    injected: float
    removed: float
    noticed: float | None
    mended: float | None


class Watcher:
    """Looks again and again whether a fault has been noticed, and then whether it has been mended."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.noticed: float | None = None
        self.mended: float | None = None
        self.removed = asyncio.Event()
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        noticing = asyncio.create_task(self._first(self._fault.noticed))
        try:
            await self.removed.wait()
            self.mended = await self._first(self._fault.mended)
            if noticing.done():
                self.noticed = noticing.result()
            elif await self._fault.noticed():  # between two looks
                self.noticed = self.mended
        finally:
            noticing.cancel()
            await asyncio.wait([noticing])

    @staticmethod
    async def _first(holds: Callable[[], Awaitable[bool]]) -> float:
        while not await holds():  # noqa: ASYNC110  # it is looked at from outside
            await asyncio.sleep(LOOK)
        return time.monotonic()

    async def until_mended(self, seconds: float) -> None:
        """Wait for it, at most so long."""
        await asyncio.wait([self._task], timeout=seconds)

    async def close(self) -> None:
        """Look no more. Raises what went wrong while looking."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()


async def run(
    case: Case, folder: Path, seconds: float, work: Callable[[Stage], Awaitable[Work]], status: Callable[[str], None]
) -> dict[str, Any]:
    """The figures of a row. Raises `BenchError` where the stage cannot be set."""
    with Processes(folder) as processes:
        stage = case.stage(processes, folder)
        status("starting")
        await stage.start(case.prefix(stage))
        todo = await work(stage)
        load = Load(stage.port, todo.asks, todo.right, todo.rate, shape=todo.shape, repeat=case.repeat)
        fault = case.fault(stage)
        memory = stage.memory()
        load.start()
        try:
            status("undisturbed")
            await asyncio.sleep(BEFORE)
            times = await _disturb(fault, max(seconds, case.seconds), status)
            await asyncio.sleep(AFTER)
            status("waiting for the last answers")
        finally:
            await load.stop()
        problems = await _problems(case, stage, load.seen, times)
        grown = stage.memory() - memory
    return figures(case, load.seen, times, problems, fault.lasts) | {"memory_grown": grown}


async def _disturb(fault: Fault, seconds: float, status: Callable[[str], None]) -> Times:
    status("disturbed")
    injected = time.monotonic()
    watcher = Watcher(fault)
    try:
        await fault.inject()
        if not fault.lasts:
            watcher.removed.set()
        await asyncio.sleep(max(0.0, injected + seconds - time.monotonic()))
        await fault.remove()
        removed = time.monotonic()
        watcher.removed.set()
        status("recovering")
        await watcher.until_mended(RECOVERY)
    finally:
        await watcher.close()
    return Times(injected, removed, watcher.noticed, watcher.mended)


async def _problems(case: Case, stage: Stage, seen: Sequence[Seen], times: Times) -> list[str]:
    """What else must hold, and does not."""
    found = []
    early = [each for each in seen if each.ended < times.injected and each.verdict.kind is not Kind.RIGHT]
    if early:
        found.append(f"{len(early)} requests failed before anything was wrong: {early[0].verdict.why}")
    if case.whole and any(each.verdict.kind is not Kind.RIGHT for each in seen):
        found.append("not every answer is right, as it has to be here")
    right = [each.verdict for each in seen if each.verdict.kind is Kind.RIGHT]
    alike = sum(each.identical for each in right)
    if alike < case.alike * len(right):
        found.append(
            f"{alike} of {len(right)} answers are the undisturbed one, byte for byte; {case.alike:.0%} have to be"
        )
    if times.mended is None:
        found.append(f"not as before within {RECOVERY:.0f} s")
    try:
        await until("nothing is in flight", stage.idle, IDLE)
    except BenchError as error:
        found.append(str(error))
    return found


def figures(case: Case, seen: Sequence[Seen], times: Times, problems: Sequence[str], lasts: bool) -> dict[str, Any]:
    """A row as it is written."""
    total = account(seen)
    since = times.removed if lasts else times.injected
    return {
        "case": case.name,
        "group": case.group,
        "title": case.title,
        **counts(total),
        "disturbed_s": round(times.removed - times.injected, 2),
        "noticed_after_s": None if times.noticed is None else round(times.noticed - times.injected, 2),
        "recovered_after_s": recovered(seen, since, times.mended),
        "repeat": case.repeat.value,
        "whole": case.whole,
        "problems": list(problems),
        "ok": not total.bad and not problems,
    }


def counts(total: Account) -> dict[str, Any]:
    """An account as it is written."""
    return {**total._asdict(), "worst_wait": round(total.worst_wait, 3)}


def recovered(seen: Sequence[Seen], since: float, mended: float | None) -> float | None:
    """Seconds until everything was as before and no request failed any more; None where that was not seen."""
    if mended is None:
        return None
    last_bad = max((each.ended for each in seen if each.verdict.kind is not Kind.RIGHT), default=0.0)
    return round(max(mended, last_bad, since) - since, 2)
