"""Whether an engine is idle, as far as that can be seen from outside.

Owns the two things one can look at: the engine's own gauges of running and waiting requests, and the connections to
its port. May not live here: how long to wait for it (the child machine).
"""

from __future__ import annotations

import re
from pathlib import Path

#: Running and waiting requests, as vLLM, SGLang and llama.cpp (with `--metrics`) call them.
GAUGES = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs"
    r"|llamacpp:requests_(?:processing|deferred))(?:\{[^}]*\})?\s+([0-9.eE+-]+)",
    re.MULTILINE,
)
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
ESTABLISHED = "01"


def requests(metrics: str) -> float | None:
    """Requests in the engine according to its metrics page; None where it does not tell."""
    found = GAUGES.findall(metrics)
    return sum(float(value) for value in found) if found else None


def connections(port: int, tables: tuple[Path, ...] = TABLES) -> int | None:
    """Established connections to a local port; None where the system does not tell (other than Linux)."""
    wanted, count, seen = f":{port:04X}", 0, False
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        seen = True
        # sl local_address rem_address st …
        fields = (line.split(None, 4) for line in lines)
        count += sum(1 for field in fields if field[3] == ESTABLISHED and field[1].endswith(wanted))
    return count if seen else None


def is_idle(metrics: str, port: int) -> bool:
    """No request, or nobody connected. An engine that tells nothing and has clients is taken for busy."""
    told = requests(metrics)
    return told == 0 or (told is None and connections(port) == 0)
