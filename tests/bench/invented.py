"""Invented results, for tests of the report only: no figure here was measured."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.report.results import Results, parse

NAMES = ("enginehouse", "nginx", "vllm-router", "sglang-router", "litellm", "enginehouse-no-failover")
# case → CPU of each of NAMES
CPU = {
    "json-1": (24, 14, 60, 84, 11000, None),
    "json-64": (18, 10, 50, 80, 10000, None),
    "json-512": (19, 11, 52, 82, 10400, None),
    "sse-64": (6.6, 6.0, 7.5, 8.5, 925, 6.4),
    "sse-512": (6.7, 6.1, 7.6, 8.6, 930, None),
    "streams-1000": (9, 8, 12, 14, None, 8.8),
    "streams-4000": (9.5, 8.3, 13, 15, None, None),
    "body-1k": (19, 11, 55, 90, 10400, None),
    "body-64k": (60, 50, 300, 500, 11000, None),
    "body-1m": (900, 700, 3900, 6900, 19000, None),
    "services-2": (18, 10, 50, 80, 10000, None),
    "services-100": (19, 10.5, 55, 95, 10100, None),
    "services-1000": (21, 12, 90, 180, None, None),
    "workers-1": (18, 10, None, None, None, None),
    "workers-2": (19, 10.4, None, None, None, None),
    "connections": (61, 40, 99, 130, 12000, None),
    "find-model-1m": (310, None, None, None, None, None),
}
LATENCY = {"direct": 100, "enginehouse": 150, "nginx": 130, "vllm-router": 200, "sglang-router": 260, "litellm": 12000}
ADDED = {
    "enginehouse": (0.2, 1.4),
    "nginx": (0.12, 1.1),
    "vllm-router": (0.3, 2.9),
    "sglang-router": (0.4, 4.4),
    "enginehouse-no-failover": (0.2, 1.4),
}


def wobble(value: float, run: int) -> float:
    """Runs 1 to 5 give 0.96, 0.98, 1, 1.02 and 1.04 times the value: the median is the value."""
    return value * (1 + (run - 3) * 0.02)


def measurement(case: str, contestant: str, run: int, cpu: float, **more: float) -> dict[str, Any]:
    return {
        "case": case,
        "contestant": contestant,
        "run": run,
        "position": 1,
        "unit": "chunk" if case.startswith(("sse", "streams")) else "request",
        "units": 80000,
        "cpu_us_per_unit": wobble(cpu, run),
        "user_s": 0.4,
        "sys_s": 0.5,
        "wall_s": 3.0,
        "per_second": 27000.0,
        "p50_ms": 1.1,
        "p99_ms": 3.0,
        "errors": 0,
        "rss_bytes": 31_000_000,
        **more,
    }


def measurements(runs: int = 5) -> list[dict[str, Any]]:
    found = []
    for run in range(1, runs + 1):
        for case, costs in CPU.items():
            for contestant, cost in zip(NAMES, costs, strict=True):
                if cost is None:
                    continue
                more: dict[str, float] = {}
                if case.startswith("streams") and contestant in ADDED:
                    p50, p99 = ADDED[contestant]
                    stalls = 40 * run if contestant == "sglang-router" else 0
                    more = {"stalls": stalls, "bytes_per_stream": 11_000, "chunks": 60_000}
                    more |= {"added_ms_p50": wobble(p50, run), "added_ms_p99": wobble(p99, run)}
                found.append(measurement(case, contestant, run, cost, **more))
        for contestant, p50 in LATENCY.items():
            row = measurement("latency", contestant, run, 20, p50_us=p50 + run, p99_us=2 * p50 + run)
            found.append(row)
    return found


def soak(grows_by: float = 0, samples: int = 121) -> dict[str, Any]:
    """Ten minutes; memory rises over the first, then by so many bytes a second, with steps up and down."""
    told = []
    for at in range(samples):
        seconds = at * 600 / (samples - 1)
        warm = min(seconds / 60, 1) * 4_000_000
        told.append([seconds, 90_000_000 + warm + grows_by * seconds + (at % 3) * 65536, int(seconds * 5000)])
    return {"seconds": 600, "requests": 3_000_000, "seed": 1, "samples": told}


def told(**changes: Any) -> dict[str, Any]:
    """A whole file, as it would lie in bench/results; `changes` replace its keys."""
    return {
        "bench": "proxy",
        "schema": 1,
        "started": "2026-11-23T02:00:00Z",
        "seconds": 1234.5,
        "machine": {"cpu": "Some CPU @ 2.5 GHz", "cores": 2, "kernel": "6.1", "python": "3.11.7", "load_before": 0.1},
        "commit": "0123456789abcdef",
        "dirty": False,
        "settings": {"runs": 5, "seconds_per_run": 3.0, "seed": 1, "pins": {"router": 1, "load": 0}},
        "excluded": ["the CPU of the load and of the backend", "kernel threads"],
        "contestants": {
            name: {
                "version": "1.2.3",
                "command": f"{name} --config a|b.conf",
                "configs": {"a.conf": f"# of {name}\nlisten <here> | there\n"},
                "counted": "all its processes",
            }
            for name in NAMES
        },
        "skipped": {},
        "measurements": measurements(),
        "soak": soak(),
        **changes,
    }


def results(**changes: Any) -> Results:
    return parse(msgspec.json.encode(told(**changes)))
