"""What the discrete-event mode is used for: matches of the contest again, whole traces, many workers, engines, hosts.

Owns these cases and running them. May not live here: the virtual fleet (`des`), routers on it (`ours`, `others`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.common.results import Results
from bench.routing import cases
from bench.routing.des import Fleet, Incident
from bench.routing.job import Job, jobs
from bench.routing.loads import LOADS, REQUESTS
from bench.routing.metrics import figures
from bench.routing.others import OTHERS, Router
from bench.routing.ours import Apart, Ours
from enginehouse.sim.constants import H100_8B

#: Blocks of the caches as large as those of the traces: nothing is shared in smaller pieces.
ENGINE = replace(H100_8B, block_size=512)
ENGINES = 8
#: Rates at which whole traces are compared: where least requests just serves nine of ten well.
FULL = {"conversation": 2.6, "agents": 4.0, "hot": 24.0, "documents": 14.0, "chats": 12.0, "code": 5.0}
_KV = H100_8B.kv_tokens

Make = Callable[[int, int], Router]
"""(engines, seed) -> a router that knows nothing yet."""


def _other(name: str) -> Make:
    return lambda engines, _seed: OTHERS[name](engines, _KV)


ROUTERS: dict[str, Make] = {
    "prefix": lambda engines, seed: Ours(engines, _KV, seed=seed),
    "least_load": lambda engines, seed: Ours(engines, _KV, "least_load", seed=seed),
    "round_robin": lambda engines, seed: Ours(engines, _KV, "round_robin", seed=seed),
    **{name: _other(name) for name in OTHERS},
}
_WORKERS: dict[str, Make] = {
    "1 worker": ROUTERS["prefix"],
    "2 workers": lambda engines, seed: Ours(engines, _KV, workers=2, seed=seed),
    "4 workers": lambda engines, seed: Ours(engines, _KV, workers=4, seed=seed),
    "4 hosts that share nothing": lambda engines, seed: Apart(4, engines, _KV, seed),
}
#: Contestants over HTTP, and who stands for them here.
_STAND_INS = {
    "prefix": "prefix",
    "least_load": "least_load",
    "round_robin": "round_robin",
    "sglang-router": "cache_aware",
    "nginx": "least requests",
}


class Sweep(NamedTuple):
    """Some routers on one load."""

    name: str
    load: str
    rate: float
    routers: dict[str, Make]
    seeds: Sequence[int]
    requests: int = 0
    """At most; 0 all there are."""
    engines: int = ENGINES
    incidents: Callable[[float], list[Incident]] = lambda _seconds: []
    """Of the length of the load."""


def whole() -> list[Sweep]:
    """Everything: a quarter of an hour."""
    return [*_as_over_http(), *_full(), *_rates(), *_workers(), *_troubles(), *_sizes()]


def quick() -> list[Sweep]:
    """Whole traces with one seed."""
    return [sweep._replace(seeds=sweep.seeds[:1]) for sweep in _full()]


def _as_over_http() -> list[Sweep]:
    """The very matches that are played over HTTP."""
    return [
        Sweep(
            f"http: {case.name}",
            case.load,
            case.rate,
            {name: ROUTERS[_STAND_INS[name]] for name in case.contestants if name in _STAND_INS},
            case.seeds,
            REQUESTS,
        )
        for case in cases.whole()
        if not case.trouble and case.workers == 1
    ]


def _full() -> list[Sweep]:
    return [Sweep(load, load, rate, ROUTERS, cases.SEEDS[:3]) for load, rate in FULL.items()]


def _rates() -> list[Sweep]:
    return [
        Sweep(f"conversation x{rate:g}", "conversation", rate, ROUTERS, cases.ONE)
        for rate in (1.4, 1.8, 2.2, 2.6, 2.8, 3.0, 3.2)
    ]


def _workers() -> list[Sweep]:
    return [
        Sweep(f"{load}, workers", load, FULL[load], _WORKERS, cases.SEEDS) for load in ("conversation", "documents")
    ]


def _troubles() -> list[Sweep]:
    """In the middle of the load."""

    def killed(seconds: float) -> list[Incident]:
        return [Incident(0.4 * seconds, "killed", 3), Incident(0.6 * seconds, "joined", 3)]

    def slowed(seconds: float) -> list[Incident]:
        return [Incident(0.4 * seconds, "slowed", 3, 3.0), Incident(0.6 * seconds, "slowed", 3, 1.0)]

    def joined(seconds: float) -> list[Incident]:
        return [Incident(0.4 * seconds, "joined", ENGINES), Incident(0.4 * seconds, "joined", ENGINES + 1)]

    happen = {"killed, and back": killed, "three times as slow for a while": slowed, "two more join": joined}
    return [
        Sweep(f"conversation, {what}", "conversation", 2.2, ROUTERS, cases.ONE, incidents=incidents)
        for what, incidents in happen.items()
    ]


def _sizes() -> list[Sweep]:
    """More engines, as much load for each; models that look at every engine for each request take too long then."""
    names = ("prefix", "least_load", "cache_aware", "LMetric", "loadaware")
    return [
        Sweep(
            f"documents, {engines} engines",
            "documents",
            1.75 * engines,
            {name: ROUTERS[name] for name in names[:count]},
            cases.ONE,
            750 * engines,
            engines,
        )
        for engines, count in ((8, 5), (32, 5), (128, 5), (512, 2))
    ]


def run(sweeps: Sequence[Sweep], traces: Path, results: Results) -> None:
    """Run all of it, a row for each router and seed."""
    for sweep in sweeps:
        load = LOADS[sweep.load]
        if load.file and not (traces / load.file).exists():
            results.data["skipped"][sweep.name] = f"there is no {load.file} in the folder of traces"
            continue
        for seed in sweep.seeds:
            asked = jobs(load.trace(traces, sweep.rate, seed, sweep.requests))
            for name, make in sweep.routers.items():
                began = time.perf_counter()
                row = {"case": sweep.name, "contestant": name, "run": seed, "load": sweep.load, "rate": sweep.rate}
                row |= {"engines": sweep.engines, **one(sweep, asked, make, seed)}
                took = time.perf_counter() - began
                results.add({**row, "took_s": round(took, 2)})
                print(
                    f"{sweep.name:36} {seed} {name:26} first token {row['ttft_mean']:8.3f} s, p90"
                    f" {row['ttft_p90']:8.3f} s, hit {row['hit']:.2f}, good {row['good']:.3f} ({took:.1f} s)",
                    flush=True,
                )


def one(sweep: Sweep, asked: Sequence[Job], make: Make, seed: int) -> dict[str, float]:
    """The figures of one router on one load."""
    incidents = sweep.incidents(max(job.at for job in asked if job.after < 0))
    most = 1 + max([sweep.engines - 1, *(incident.engine for incident in incidents)])
    fleet = Fleet(asked, ENGINE, sweep.engines, make(most, seed), incidents)
    return figures(fleet.run(), len(asked), sweep.engines)
