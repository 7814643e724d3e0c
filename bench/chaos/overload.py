"""The row about overload: three times what the engines bear.

Owns its load, in two steps, and what has to hold: as much is answered as before, the rest is refused quickly and
honestly, memory stays bounded. May not live here: faults.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.chaos.load import Load, Repeat, account
from bench.chaos.processes import until
from bench.chaos.row import IDLE, Work, counts
from bench.chaos.stage import PACE, TOKENS, Plain, simulated
from bench.chaos.verdict import Kind
from bench.common.processes import BenchError, Processes

NAME, GROUP, TITLE = "overload", "load", "three times what the engines bear"
#: Requests that each of the two engines works on at the same time; what comes above waits inside it.
SLOTS = 4
#: Seconds that a request takes there, and how many a second the two answer at most.
SECONDS = PACE["ttft"] + (TOKENS - 1) * PACE["time_per_token"]
CAPACITY = 2 * SLOTS / SECONDS
#: What is sent, in proportion to that: just enough to keep them busy, then far more.
BUSY, OVERLOADED = 1.15, 3.0
#: Seconds of each step that are not counted: queues fill and empty.
SETTLE = 2.0
#: Queue of a worker, and seconds that a request may wait in it.
QUEUE, WAIT = 16, 4
#: Goodput under overload that is still the maximum; a refusal is quick within its wait and so many seconds.
KEPT, QUICK = 0.9, 1.0
#: Bytes by which all workers together may grow.
GROWTH = 64 << 20


async def run(folder: Path, seconds: float, work: Work, status: Callable[[str], None]) -> dict[str, Any]:
    """The figures of the row."""
    router = {"queue_size": QUEUE, "queue_timeout": WAIT, "policy": "least_load"}
    with Processes(folder) as processes:
        stage = Plain(processes, folder, router=router, metadata={"capacity": SLOTS}, engine=simulated(slots=SLOTS))
        status("starting")
        await stage.start()
        load = Load(stage.port, work.asks, work.right, CAPACITY, repeat=Repeat.NEVER)
        memory = stage.memory()
        try:
            status("busy")
            busy = await _goodput(load, BUSY * CAPACITY, seconds)
            status("overloaded")
            overloaded = await _goodput(load, OVERLOADED * CAPACITY, seconds)
            grown = stage.memory() - memory
            status("waiting for the last answers")
        finally:
            await load.stop()
        row = figures(load, busy, overloaded, grown)
        try:
            await until("nothing is in flight", stage.idle, IDLE)
        except BenchError as error:
            row["problems"].append(str(error))
    return row | {"ok": not row["lost"] + row["wrong"] and not row["problems"]}


async def _goodput(load: Load, rate: float, seconds: float) -> float:
    """Right answers a second at a rate of requests."""
    load.start(rate)
    await asyncio.sleep(SETTLE)
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    end = time.monotonic()
    right = sum(each.verdict.kind is Kind.RIGHT and begin <= each.ended < end for each in load.seen)
    return right / (end - begin)


def figures(load: Load, busy: float, overloaded: float, grown: int) -> dict[str, Any]:
    """The row as it is written, without its verdict."""
    refusals = sorted(each.ended - each.began for each in load.seen if each.verdict.kind is Kind.REFUSED)
    slowest = refusals[int(0.99 * len(refusals))] if refusals else 0.0
    problems = []
    if overloaded < KEPT * busy:
        problems.append(f"goodput fell from {busy:.1f} to {overloaded:.1f} right answers a second")
    if slowest > WAIT + QUICK:
        problems.append(f"refusals take up to {slowest:.1f} s")
    if not refusals:
        problems.append("nothing was refused: this was no overload")
    if grown > GROWTH:
        problems.append(f"the workers grew by {grown >> 20} MiB")
    return {
        "case": NAME,
        "group": GROUP,
        "title": TITLE,
        **counts(account(load.seen)),
        "noticed_after_s": None,
        "recovered_after_s": None,
        "goodput": round(overloaded, 1),
        "goodput_before": round(busy, 1),
        "refused_after_median_s": round(statistics.median(refusals), 3) if refusals else None,
        "refused_after_p99_s": round(slowest, 3),
        "memory_grown": grown,
        "problems": problems,
    }
