"""The soak: minutes of mixed load on Enginehouse alone, and what its memory does meanwhile.

Owns the load's rounds, the samples and the figures made of them. May not live here: fitting (`slope`), rendering.

A round is a few seconds of JSON requests by wrk and of streams by the streaming client, both at once; connections end
with it, so every round also opens hundreds anew. Memory is read between two rounds, when nothing is under way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import cpu, processes, traffic
from bench.common.processes import BenchError, Processes
from bench.contestants.base import Job, Started, until_it_answers
from bench.proxy import backend, slope, wrk
from bench.proxy.contestants import ALL
from bench.proxy.stage import Settings
from bench.proxy.wrk import Load

#: Of load in a round. Seconds.
_ROUND = 5
_JSON_CONNECTIONS, _STREAM_CONNECTIONS, _CHUNKS = 64, 128, 50
_JSON_MODELS, _STREAM_MODELS = traffic.models(8)[:4], traffic.models(8)[4:]
#: Share of the time that is warm-up: samples of it are stored, but not fitted.
_WARM = 0.15
_READY = 60.0


class Sample(NamedTuple):
    """Memory after so much work. The first three are in the order in which results hold them."""

    seconds: float
    rss: int
    requests: int
    worker: int
    control: int


class Counts(NamedTuple):
    """Work done so far."""

    json: int = 0
    streams: int = 0
    chunks: int = 0
    errors: int = 0

    @property
    def requests(self) -> int:
        """Of both kinds."""
        return self.json + self.streams


def run(settings: Settings, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of a soak of `settings.soak_minutes`."""
    seconds = settings.soak_minutes * 60
    router, load_core = (settings.router_core,), (settings.load_core,)
    directory.mkdir()
    with Processes(directory) as started:
        house = _start(started, router, load_core, directory)
        bodies = traffic.bodies(2000, _JSON_MODELS, 64, settings.seed)
        load = wrk.prepare(directory / "bodies", bodies, _JSON_CONNECTIONS)
        samples, counts = [sample(house, 0.0, Counts())], Counts()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            counts = _round(house.url, load, load_core, settings.seed + len(samples), counts)
            house.process.require_alive()
            samples.append(sample(house, time.monotonic() - began, counts))
            if len(samples) % 10 == 2:
                last = samples[-1]
                memory = f"{last.rss / 2**20:.1f} MiB"
                say(f"  {passed:5.0f} s: {memory}, {counts.requests:,} requests, {counts.errors} errors")
    return {"seed": settings.seed, **figures(samples, counts)}


def _start(started: Processes, cores: tuple[int, ...], load_cores: tuple[int, ...], directory: Path) -> Started:
    """Enginehouse before two engines that answer at once and two that stream."""
    answering, port = backend.start(started, _JSON_MODELS, load_cores, directory / "backend")
    _, stream_port = backend.start_streaming(started, _STREAM_MODELS, load_cores)
    services = list(traffic.services(2, port, _JSON_MODELS))
    for index, service in enumerate(traffic.services(2, stream_port, _STREAM_MODELS)):
        services.append(service._replace(name=f"stream-{index}", host=f"127.1.0.{index + 2}"))
    folder = directory / "enginehouse"
    folder.mkdir()
    house = ALL["enginehouse"].start(
        started, Job(tuple(services), 1, cores, folder, streaming=False, backend=answering)
    )
    until_it_answers(house, [*_JSON_MODELS, *_STREAM_MODELS], _READY)
    return house


def _round(url: str, load: Load, cores: Sequence[int], seed: int, before: Counts) -> Counts:
    """Some seconds of both loads at once."""
    words = [sys.executable, "-m", "bench.proxy.stream_client", "--url", url, "--models", ",".join(_STREAM_MODELS)]
    words += ["--connections", str(_STREAM_CONNECTIONS), "--chunks", str(_CHUNKS), "--interval", "0.02"]
    words += ["--seconds", str(_ROUND), "--warmup", "0", "--linger", "3", "--seed", str(seed)]
    with processes.spoken(words, cores) as line:
        line(30)
        counted = wrk.run(load, url, _ROUND, cores)
        said: dict[str, float] = json.loads(line(_ROUND + 30))
    return Counts(
        before.json + counted.requests,
        before.streams + int(said["streams"]),
        before.chunks + int(said["chunks"]),
        before.errors + counted.errors + int(said["errors"]),
    )


def sample(house: Started, seconds: float, counts: Counts) -> Sample:
    """Memory now. Raises `BenchError` if its worker or control is missing."""
    by_role = {}
    for pid in cpu.tree([house.process.pid]):
        words = cpu.command_line(pid)
        by_role["worker" if "app worker" in words else "control" if "app control" in words else str(pid)] = cpu.rss(pid)
    if "worker" not in by_role or "control" not in by_role:
        raise BenchError(f"worker or control is missing:\n{house.process.output()[-2000:]}")
    return Sample(round(seconds, 2), sum(by_role.values()), counts.requests, by_role["worker"], by_role["control"])


def figures(samples: Sequence[Sample], counts: Counts) -> dict[str, Any]:
    """What a soak is stored as. Needs three samples after the warm-up."""
    length = samples[-1].seconds
    fitted = [one for one in samples if one.seconds >= length * _WARM]
    found: dict[str, Any] = {
        "seconds": length,
        "warm_up_seconds": round(length * _WARM, 1),
        "rounds": len(samples) - 1,
        "json_requests": counts.json,
        "streams": counts.streams,
        "chunks": counts.chunks,
        "requests": counts.requests,
        "errors": counts.errors,
        "json_connections": _JSON_CONNECTIONS,
        "stream_connections": _STREAM_CONNECTIONS,
    }
    for name in ("rss", "worker", "control"):
        by_time = slope.fit([(one.seconds, getattr(one, name)) for one in fitted])
        by_work = slope.fit([(one.requests / 1e6, getattr(one, name)) for one in fitted])
        found |= {
            f"{name}_slope_bytes_per_second": round(by_time.value, 1),
            f"{name}_slope_error_bytes_per_second": round(by_time.error, 1),
            f"{name}_slope_bytes_per_million_requests": round(by_work.value),
            f"{name}_slope_error_bytes_per_million_requests": round(by_work.error),
            f"{name}_first_bytes": getattr(fitted[0], name),
            f"{name}_last_bytes": getattr(fitted[-1], name),
        }
    return {**found, "samples": [list(one) for one in samples], "samples_are": list(Sample._fields)}
