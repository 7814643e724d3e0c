"""One measurement: load through a contestant, and what its processes used meanwhile.

Owns one function for each kind of load, and the names of the figures. May not live here: order, repetition, files.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.common import processes
from bench.common.cpu import Meter, Spent
from bench.proxy import wrk
from bench.proxy.cases import Case
from bench.proxy.wrk import Load

Figures = dict[str, float | int | str]

#: Seconds in which all connections of a load of streams must be up.
_RAMP = 60
#: Figures of the streaming client that are kept as they are. What it means by them is said in `stream_figures`.
_KEPT = (
    "streams",
    "reads_per_chunk",
    "own_stalls",
    "backend_stalls",
    "gap_ms_max",
    "added_ms_p50",
    "added_ms_p99",
    "added_ms_max",
    "first_ms_p50",
    "first_ms_p99",
    "reopened",
    "lag_ms_max",
    "core_wait_ms_max",
)


class Bench(NamedTuple):
    """What every measurement needs to know."""

    seconds: int
    """Of load that is measured."""
    warm: int
    """Of load before."""
    load_cores: tuple[int, ...]
    seed: int


class Target(NamedTuple):
    """Whom the load goes to."""

    url: str
    roots: tuple[int, ...]
    """Processes whose trees are counted; none for going direct."""


def requests(bench: Bench, load: Load, target: Target) -> Figures:
    """Requests that are answered at once, by wrk."""
    if bench.warm:
        wrk.run(load, target.url, bench.warm, bench.load_cores)
    meter = Meter(target.roots)
    began = time.monotonic()
    counted = wrk.run(load, target.url, bench.seconds, bench.load_cores)
    wall = time.monotonic() - began
    return {
        **spent(meter.stop(), counted.requests, wall),
        "per_second": round(counted.requests / (counted.duration_us / 1e6), 1),
        "p50_ms": round(counted.p50_us / 1e3, 3),
        "p99_ms": round(counted.p99_us / 1e3, 3),
        "errors": counted.errors,
    }


def one_by_one(bench: Bench, load: Load, target: Target) -> Figures:
    """One connection, the next request when the last is answered, every time taken."""
    words = [sys.executable, "-m", "bench.proxy.latency_client", "--url", target.url, "--seconds", str(bench.seconds)]
    words += ["--bodies", str(load.directory), "--count", str(load.bodies), "--warmup", str(bench.warm)]
    with processes.spoken(words, bench.load_cores) as line:
        line(bench.warm + 30)
        meter = Meter(target.roots)
        began = time.monotonic()
        said = _read(line(bench.seconds + 30))
        used, wall = meter.stop(), time.monotonic() - began
    return {
        **spent(used, int(said["requests"]), wall),
        "per_second": round(said["requests"] / wall, 1),
        "p50_us": round(said["p50_us"], 1),
        "p99_us": round(said["p99_us"], 1),
        "p50_ms": round(said["p50_us"] / 1e3, 3),
        "p99_ms": round(said["p99_us"] / 1e3, 3),
        "errors": int(said["errors"]),
    }


def streams(bench: Bench, case: Case, models: Sequence[str], target: Target, empty: int) -> Figures:
    """Streams, either one after another on each connection or (`case.chunks` is 0) one without an end on each.

    `empty`: bytes resident before there was any; 0 where memory is not measured.
    """
    words = [sys.executable, "-m", "bench.proxy.stream_client", "--url", target.url, "--models", ",".join(models)]
    words += ["--connections", str(case.connections), "--interval", str(case.interval), "--seed", str(bench.seed)]
    words += ["--seconds", str(bench.seconds), "--warmup", str(bench.warm), "--ramp", str(_RAMP)]
    words += ["--chunks", str(case.chunks)] if case.chunks else ["--long"]
    with processes.spoken(words, bench.load_cores) as line:
        ready = _read(line(_RAMP + bench.warm + 30))
        meter = Meter(target.roots)
        began = time.monotonic()
        said = _read(line(bench.seconds + 30))
        used, wall = meter.stop(), time.monotonic() - began
    figures = spent(used, int(said["chunks"]), wall)
    figures |= {name: round(said[name], 3) for name in _KEPT if name in said}
    figures |= {name: int(value) for name, value in said.items() if name.startswith("errors_") and value}
    figures |= {f"{name}_before": int(value) for name, value in ready.items() if name.startswith("errors_") and value}
    figures |= {
        "per_second": round(said["per_second"], 1),
        "p50_ms": round(said["added_ms_p50"], 3),
        "p99_ms": round(said["added_ms_p99"], 3),
        "stalls": _not_explained(said),
        "all_stalls": int(said["stalls"]),
        "load_cpu_us_per_unit": round(said["cpu_us_per_chunk"], 3),
        "errors": int(said["errors"]) + _missing(case, ready),
    }
    if empty:
        figures["bytes_per_stream"] = round((used.rss - empty) / case.connections)
    return figures


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


def _read(line: str) -> dict[str, float]:
    """A line of figures."""
    return {name: float(value) for name, value in json.loads(line).items()}


def _not_explained(said: Mapping[str, float]) -> int:
    """Stalls without those in which the client itself was late, or the backend had sent late."""
    return max(0, int(said["stalls"] - said["own_stalls"] - said["backend_stalls"]))


def _missing(case: Case, ready: Mapping[str, float]) -> int:
    """Streams wanted that never began, and errors while they began."""
    before = sum(value for name, value in ready.items() if name.startswith("errors_"))
    return max(0, case.connections - int(ready["streams"])) + int(before)
