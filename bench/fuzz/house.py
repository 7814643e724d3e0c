"""The router under test, as a user starts it, with short deadlines, and a look at its health from outside.

Owns its configuration, its processes, what they hold (memory, descriptors, loads) and what they say. May not live here:
what is sent to it.
"""

from __future__ import annotations

import json
import mmap
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from bench.common import cpu
from bench.common.processes import BenchError, Processes
from enginehouse.core.shared import SIZE, Shared
from enginehouse.core.units import MIB

BODY_BUDGET: Final = 8 * MIB
_CONFIG: Final = """
[router]
workers = {workers}
access_log = "{log}"
access_log_format = "json"
health_interval = 60
max_errors = 5
ejection_time = 0.2
retry_timeouts = true
hedge_after = 0.3
hedge_budget = 0.2
service_capacity = 60
learn_capacity = true
queue_timeout = 2
failover_memory = {budget}
connect_timeout = 1
first_byte_timeout = 1
idle_timeout = 1
head_timeout = 1
body_timeout = 1
send_timeout = 3
keepalive_timeout = 1
engine_keepalive_timeout = 1
drain_timeout = 3
max_body = {budget}
body_budget = {budget}
max_connections = 5000

[router.models.m]
aliases = ["alias"]
"""
_READY: Final = 60.0
#: Words of a log that tell of a bug, a crash or a worker that was replaced.
_TROUBLE = re.compile(
    r"a bug|Traceback|Fatal error|Exception in|exception was never|ended \(|no sign of life|never awaited"
)


class Held(NamedTuple):
    """What the processes hold. The first three are in the order in which results hold them."""

    seconds: float
    worker_bytes: int
    control_bytes: int
    worker_descriptors: int


class House:
    """A running router. Leaving the context ends it."""

    def __init__(self, directory: Path, ports: Sequence[int], workers: int) -> None:
        """Starts it in front of engines on these ports and waits until it knows them. Raises `BenchError`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._processes = Processes(directory)
        self._seen = 0
        self._shared: Shared | None = None
        self._log = directory / "access.log"
        metadata = {"type": "openai-api", "models": ["m", "org/m"], "continue_final_message": True}
        services = [
            {"name": f"e{n}", "host": "127.0.0.1", "port": p, "metadata": metadata} for n, p in enumerate(ports)
        ]
        (directory / "static.json").write_text(json.dumps(services))
        config = _CONFIG.format(workers=workers, log=self._log, budget=BODY_BUDGET)
        (directory / "house.toml").write_text(config)
        words = ["router", "--host", "127.0.0.1", "--router-port", "0", "--config", str(directory / "house.toml")]
        words += ["--static-services", str(directory / "static.json")]
        self._process = self._processes.start("router", [sys.executable, "-m", "enginehouse.cli.main", *words], ())
        self.port = self._find_port()
        self.pids: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.__exit__(kind, error, trace)

    def _find_port(self) -> int:
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            self._process.require_alive()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", self._process.output())
            if found:
                return int(found[1])
            time.sleep(0.05)
        raise BenchError(f"the router does not start:\n{self._process.output()}")

    def settle(self) -> None:
        """From now on other processes than those that there are now tell of a crash."""
        self.pids = self._roles()

    def _roles(self) -> dict[str, int]:
        found = {}
        for pid in cpu.tree([self._process.pid]):
            role = re.search(r"enginehouse\.app (\w+) (\{.*\})", cpu.command_line(pid))
            if role:
                values = json.loads(role[2])
                found[f"{role[1]} {values.get('index', '')}".strip()] = pid
                if role[1] == "worker" and self._shared is None:
                    self._shared = _shared(pid, values["shared"])
        return found

    def troubles(self) -> list[str]:
        """What its log and its processes tell of crashes and bugs since the last look."""
        text = self._process.output()
        fresh, self._seen = text[self._seen :], len(text)
        found = [fresh[max(0, fresh.find(hit[0]) - 200) :][:4000] for hit in list(_TROUBLE.finditer(fresh))[:1]]
        now = self._roles()
        for role, pid in self.pids.items():
            if now.get(role, pid) != pid:
                found.append(f"{role} was replaced")
        self.pids |= now
        return found

    def held(self, seconds: float) -> Held:
        """What it holds now."""
        workers = [pid for role, pid in self.pids.items() if role.startswith("worker")]
        control = [pid for role, pid in self.pids.items() if role == "control"]
        return Held(
            round(seconds, 1),
            sum(map(cpu.rss, workers)),
            sum(map(cpu.rss, control)),
            sum(_descriptors(pid) for pid in workers),
        )

    def loads(self) -> int:
        """Requests in flight, of all workers and services."""
        if self._shared is None:
            return 0
        return sum(sum(map(abs, row)) for row in self._shared.loads)

    def bad_log_lines(self) -> tuple[int, list[str]]:
        """(lines of the access log, those of them that are no JSON objects)."""
        count = 0
        bad: list[str] = []
        with self._log.open("rb") as lines:
            for line in lines:
                count += 1
                try:
                    whole = line.endswith(b"\n") and isinstance(json.loads(line.decode()), dict)
                except ValueError:
                    whole = False
                if not whole and len(bad) < 10:
                    bad.append(repr(line[:300]))
        return count, bad


def _shared(pid: int, descriptor: int) -> Shared | None:
    """The memory that the workers share, through a descriptor of one of them."""
    try:
        with Path(f"/proc/{pid}/fd/{descriptor}").open("rb") as file:
            return Shared(memoryview(mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ)))
    except OSError:
        return None


def _descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
