"""Load by wrk, one thread: how it is called, and what it says.

Owns `Load`, `Counted`, `run()` and reading wrk's line. May not live here: CPU accounting, what a case is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from bench.common import processes, traffic
from bench.common.processes import BenchError

_SCRIPT = Path(__file__).with_name("request.lua")
#: A request without an answer by then counts as an error. Seconds.
_TIMEOUT = 20


How = Literal["keep", "close", "new"]
"""Connections are kept; or there is a new one for every request; or they are kept, but no two heads are the same."""


class Load(NamedTuple):
    """Requests to send, over and over."""

    directory: Path
    bodies: int
    connections: int
    how: How = "keep"


class Counted(msgspec.Struct, frozen=True):
    """What wrk saw."""

    requests: int
    duration_us: int
    bytes: int
    connect: int
    read: int
    write: int
    status: int
    timeout: int
    p50_us: float
    p99_us: float
    max_us: float

    @property
    def errors(self) -> int:
        """Answers that were not 2xx, and connections that failed."""
        return self.connect + self.read + self.write + self.status + self.timeout


def prepare(directory: Path, bodies: Sequence[bytes], connections: int, how: How = "keep") -> Load:
    """Write the bodies where the script reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    for index, body in enumerate(bodies):
        (directory / f"{index}.json").write_bytes(body)
    return Load(directory, len(bodies), connections, how)


def run(load: Load, url: str, seconds: int, cores: Sequence[int]) -> Counted:
    """Send for that long. Raises `BenchError` if wrk cannot."""
    headers = [word for pair in traffic.HEADERS.items() for word in pair]
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", f"--timeout={_TIMEOUT}s", f"--script={_SCRIPT}"]
    command += [url, "--", str(load.directory), str(load.bodies), traffic.PATH, load.how, *headers]
    return parse(processes.run(command, cores, seconds + _TIMEOUT + 30))


def parse(output: str) -> Counted:
    """The script's line out of what wrk printed. Raises `BenchError` if there is none."""
    for line in output.splitlines():
        if line.startswith("{"):
            return msgspec.json.decode(line, type=Counted)
    raise BenchError(f"wrk said nothing that can be read: {output[-1000:]!r}")
