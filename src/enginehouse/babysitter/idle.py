"""Whether an engine is idle, as far as that can be seen from outside.

Owns what one can look at: the router's word, the engine's own gauges of running and waiting requests, and the
connections to its port. May not live here: how long to wait for it (the child machine).
"""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import msgspec

from enginehouse.core.units import MIB

#: Running and waiting requests, as vLLM, SGLang and llama.cpp (with `--metrics`) call them.
GAUGES = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs"
    r"|llamacpp:requests_(?:processing|deferred))(?:\{[^}]*\})?\s+([0-9.eE+-]+)",
    re.MULTILINE,
)
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
ESTABLISHED = "01"
#: Seconds and bytes that the router's list of services may take.
ROUTER_TIMEOUT = 2.0
MAX_ANSWER = 64 * MIB


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


def is_idle(metrics: str, port: int, drained: bool | None = None) -> bool:
    """No request, or nobody connected. An engine that tells nothing and has clients is taken for busy.

    `drained`: what the router says, None where there is none that knows the engine. Only the router knows of a request
    that is on its way; only the engine knows of clients that came past the router.
    """
    if drained is False:
        return False
    if (told := requests(metrics)) is not None:
        return told == 0
    connected = connections(port)
    return connected == 0 if connected is not None else bool(drained)


async def is_drained(session: aiohttp.ClientSession, router_url: str, name: str) -> bool | None:
    """Whether the router sends a service no more requests and has none left with it; None where it does not tell."""
    try:
        timeout = aiohttp.ClientTimeout(total=ROUTER_TIMEOUT)
        async with session.get(f"{router_url.rstrip('/')}/services", timeout=timeout) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER:
                    return None
        services = msgspec.json.decode(body, type=_Services).services
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
    return next((service.drained for service in services if service.name == name), None)


class _Service(msgspec.Struct):
    name: str
    drained: bool | None = None


class _Services(msgspec.Struct):
    services: list[_Service]
