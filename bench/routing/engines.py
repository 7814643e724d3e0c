"""The engines of the contest: simulated ones, a process each, that can be killed, started again and slowed down.

Owns `Engines`. May not live here: what an engine does (`enginehouse.sim`), what is asked of it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from typing import Any

from bench.common.processes import BenchError, Process, Processes, free_port
from bench.common.traffic import Service

MODEL = "bench-model"
#: Tokens in an event of a stream: what engines send one by one would keep the machine busy with what nobody measures.
STREAM_INTERVAL = 16
#: Seconds until all of them listen.
_STARTS = 30.0


class Engines:
    """So many engines, all with empty caches."""

    def __init__(self, processes: Processes, count: int, time_scale: float) -> None:
        self._processes = processes
        self._time_scale = time_scale
        self.services = tuple(Service(f"engine-{each}", "127.0.0.1", free_port(), (MODEL,)) for each in range(count))
        self.running: list[Process] = [self._start(service) for service in self.services]
        for service in self.services:
            self._until_it_answers(service)

    def _start(self, service: Service) -> Process:
        settings = {
            "name": service.name,
            "port": service.port,
            "models": [MODEL],
            "engine_model": "h100-8b",
            "time_scale": self._time_scale,
            "stream_interval": STREAM_INTERVAL,
            "tokens": 1 << 14,
            "context": 1 << 20,
        }
        return self._processes.start(service.name, [sys.executable, "-m", "enginehouse.sim", json.dumps(settings)], ())

    def _until_it_answers(self, service: Service) -> None:
        deadline = time.monotonic() + _STARTS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if _ask(service, "GET", "/health")[0] == 200:
                    return
            if time.monotonic() > deadline:
                raise BenchError(f"{service.name} does not answer after {_STARTS:.0f} s")
            time.sleep(0.02)

    def kill(self, number: int) -> None:
        """`kill -9`; whoever talks to it is cut off."""
        os.kill(self.running[number].pid, signal.SIGKILL)
        self._processes.stop(self.running[number])

    def start_again(self, number: int) -> None:
        """On the same port, with nothing in its cache."""
        self.running[number] = self._start(self.services[number])

    def slow_down(self, number: int, factor: float) -> None:
        """Its steps take so many times as long."""
        _ask(self.services[number], "POST", "/sim/engine", {"slow_factor": factor})

    def stop(self) -> None:
        """End all of them."""
        for process in self.running:
            self._processes.stop(process)
        self.running = []

    def told(self) -> list[dict[str, Any]]:
        """What each of them counted."""
        return [_ask(service, "GET", "/sim/engine")[1] for service in self.services]


def _ask(service: Service, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data) if data else {}
