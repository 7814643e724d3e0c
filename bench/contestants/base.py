"""What every contestant is to the run.

Owns `Contestant`, `Job`, `Started` and waiting until one answers. May not live here: any one contestant.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.common import traffic
from bench.common.processes import BenchError, Process, Processes
from bench.common.traffic import Service

#: Good answers in a row after which a contestant is taken to be ready.
_READY = 20


class Job(NamedTuple):
    """What a contestant has to do in a case."""

    services: tuple[Service, ...]
    workers: int
    cores: tuple[int, ...]
    """Where it may run."""
    directory: Path
    """For its files; exists, empty."""
    streaming: bool
    backend: Process
    """For whoever goes there directly."""


class Started(NamedTuple):
    """A contestant that answers."""

    process: Process
    """Root of all its processes."""
    port: int
    command: Sequence[str]
    configs: Mapping[str, str]
    """Name to text of each file it was given."""
    further_ports: tuple[int, ...] = ()
    """Others that it was given."""
    counted: bool = True
    """Whether the processes below `process` are its own."""

    @property
    def roots(self) -> tuple[int, ...]:
        """The trees of processes that are its own."""
        return (self.process.pid,) if self.counted else ()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"


class Contestant(Protocol):
    """One of those compared."""

    name: str
    counted: str
    """Which processes' time is its own, in words."""
    patience: int
    """How many times as long the load lasts: the slowest would else do less than is under way when it ends."""
    routing: str
    """How it chooses an engine, as it is started here, in words."""

    def install(self) -> None:
        """Bring it onto this machine. Raises `BenchError` where that is impossible."""

    def version(self) -> str:
        """What is installed."""

    def start(self, processes: Processes, job: Job) -> Started:
        """Start it and wait until it listens. Raises `BenchError`."""


def until_it_answers(started: Started, models: Sequence[str], seconds: float) -> None:
    """Until it served some requests in a row, over these models. Raises `BenchError`."""
    deadline = time.monotonic() + seconds
    served, last = 0, "nothing"
    hi = b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
    body = {model: hi % model.encode() for model in models}
    while served < _READY:
        started.process.require_alive()
        last = _ask(started.port, body[models[served % len(models)]])
        served = served + 1 if last == "200" else 0
        if time.monotonic() > deadline:
            raise BenchError(
                f"{started.process.name} does not serve after {seconds:.0f} s, last answer {last}; it printed:\n"
                f"{started.process.output()[-2000:]}"
            )
        if last != "200":
            time.sleep(0.2)


def _ask(port: int, body: bytes) -> str:
    """The status of one chat, or what went wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request("POST", traffic.PATH, body, traffic.HEADERS)
            response = connection.getresponse()
            response.read()
            return str(response.status)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
