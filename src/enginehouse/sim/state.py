"""What one simulated engine is and remembers, shared by its connections.

Owns the counters that `GET /sim/stats` tells, and every table that outlives a request; all of them bounded.
May not live here: bytes on a connection, or how requests are answered.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Protocol

from enginehouse.core.config.sim import SimConfig
from enginehouse.sim.faults import PROBES, Fault, FaultBook, parse
from enginehouse.sim.model import Engine
from enginehouse.sim.paced import Paced
from enginehouse.sim.request import Request

REMEMBERED_RESPONSES = 1024
COUNTED_PATHS = 256


class Stats:
    """Counters since the start."""

    def __init__(self) -> None:
        self.requests = self.probes = self.active = self.most_active = self.aborted = 0
        self.connections = self.connections_open = self.bytes_sent = self.bytes_received = 0
        self.by_path: dict[str, int] = {}
        self.last: Request | None = None

    def seen(self, request: Request) -> None:
        """A head has arrived."""
        key = f"{request.method} {request.path}"
        if key in self.by_path or len(self.by_path) < COUNTED_PATHS:
            self.by_path[key] = self.by_path.get(key, 0) + 1
        if request.path in PROBES:
            self.probes += 1
        else:
            self.requests += 1
            self.last = request

    def began(self) -> None:
        """A request is being answered."""
        self.active += 1
        self.most_active = max(self.most_active, self.active)

    def told(self) -> dict[str, Any]:
        """The counters as plain data. Header names and values are Latin-1, so that every byte has a character."""
        plain = {key: value for key, value in vars(self).items() if key != "last"}
        return plain | {"last": self.last and _told(self.last)}


def _told(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "target": request.target.decode("latin-1"),
        "version": request.version,
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers],
        "body_length": len(request.body),
        "body_sha256": sha256(request.body).hexdigest(),
    }


class Stoppable(Protocol):
    """A connection."""

    def stop(self) -> None:
        """End as soon as nothing is in progress."""

    def abort(self) -> None:
        """End now, with a TCP reset."""


class Sim:
    """A simulated engine."""

    def __init__(self, config: SimConfig, loop: asyncio.AbstractEventLoop, key: str) -> None:
        self.config = config
        self.loop = loop
        self.name = config.name
        self.key = key.encode()
        self.stats = Stats()
        self.pid = os.getpid()
        self.book = FaultBook([parse(each) for each in config.faults])
        self.on_faults: Callable[[], None] = _nothing
        self.engine = Engine(loop, config.ttft, config.time_per_token, config.slots)
        self.lines: set[Stoppable] = set()
        self.stopping = False
        self.empty = asyncio.Event()
        self.empty.set()
        self.paced = Paced(loop, config) if config.engine_model != "none" else None
        self.loading = config.ready_after > 0
        self.llama_style = config.style == "llama.cpp"
        self.head = b"server: sim\r\nx-sim-name: " + config.name.encode() + b"\r\n"
        self.responses: OrderedDict[str, bytes] = OrderedDict()
        self._run = os.urandom(4).hex()  # ids of an earlier run are not ours
        self._made = 0

    def connected(self, line: Stoppable) -> None:
        """A client has come."""
        self.lines.add(line)
        self.empty.clear()
        self.stats.connections += 1
        self.stats.connections_open += 1

    def handed_over(self, line: Stoppable, to: Stoppable) -> None:
        """The connection goes on as something else."""
        self.lines.discard(line)
        self.lines.add(to)

    def disconnected(self, line: Stoppable) -> None:
        """A client has gone."""
        self.lines.discard(line)
        if not self.lines:
            self.empty.set()
        self.stats.connections_open -= 1

    def stop(self) -> None:
        """Idle connections end now, the others after their answers."""
        self.stopping = True
        for line in list(self.lines):
            line.stop()

    def abort(self) -> None:
        """All connections end now."""
        for line in list(self.lines):
            line.abort()

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """From now on these go wrong."""
        self.book.replace(faults)
        self.on_faults()

    def new_id(self, prefix: str) -> str:
        """An id that no other answer has."""
        self._made += 1
        return f"{prefix}{self._run}{self._made:06x}"

    def remember(self, name: str, response: bytes) -> None:
        """Keep an answer of /v1/responses; the oldest is forgotten when there are too many."""
        self.responses[name] = response
        if len(self.responses) > REMEMBERED_RESPONSES:
            self.responses.popitem(last=False)


def _nothing() -> None:
    """Nobody has to be told."""
