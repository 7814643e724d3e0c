"""One measurement: load through a contestant, and what its processes used meanwhile.

Owns one function for each kind of case, and the figures it returns. May not live here: order, repetition, files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from bench.proxy import wrk
from bench.proxy.cpu import Meter, Spent
from bench.proxy.wrk import Load

Figures = dict[str, float | int | str]


class Bench(NamedTuple):
    """What every measurement needs to know."""

    seconds: int
    """Of load that is measured."""
    warm: int
    """Of load before."""
    load_cores: tuple[int, ...]


def json_requests(bench: Bench, load: Load, url: str, roots: Sequence[int], others: Sequence[int]) -> Figures:
    """Requests answered at once. `others`: roots of those that should be idle."""
    if bench.warm:
        wrk.run(load, url, bench.warm, bench.load_cores)
    meter, idle = Meter(roots), Meter(others)
    began = time.monotonic()
    counted = wrk.run(load, url, bench.seconds, bench.load_cores)
    wall = time.monotonic() - began
    return {
        **spent(meter.stop(), counted.requests, wall),
        "per_second": round(counted.requests / (counted.duration_us / 1e6), 1),
        "p50_ms": round(counted.p50_us / 1e3, 3),
        "p99_ms": round(counted.p99_us / 1e3, 3),
        "errors": counted.errors,
        "idle_others_s": round(idle.stop().cpu_ns / 1e9, 4),
    }


def spent(used: Spent, units: int, wall: float) -> Figures:
    """The figures that every measurement has."""
    return {
        "units": units,
        "cpu_us_per_unit": round(used.cpu_ns / 1e3 / units, 3) if units else 0.0,
        "user_s": round(used.user_ns / 1e9, 3),
        "sys_s": round((used.cpu_ns - used.user_ns) / 1e9, 3),
        "wall_s": round(wall, 3),
        "rss_bytes": used.rss,
        "processes": used.processes,
    }
