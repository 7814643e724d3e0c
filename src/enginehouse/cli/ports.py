"""Which ports a house needs, which of them clash, and which are taken.

Owns the rule that an engine takes its port and its babysitter the next one. May not live here: choosing engines' ports.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import NamedTuple

from enginehouse.core.config.house import HouseConfig


class Claim(NamedTuple):
    """A port somebody will listen on."""

    port: int
    host: str
    owner: str


class Clash(NamedTuple):
    """Two claims of one port."""

    text: str
    fix: str


def claims(config: HouseConfig) -> list[Claim]:
    """The ports of a house. A port of 0 is chosen by the system and claims nothing; a foreign registry has its own."""
    found = [Claim(config.router.port, config.router.host, "router")]
    if not config.router.registry_url:
        found.append(Claim(config.registry.port, config.registry.host, "registry"))
    for engine in config.engine:
        found.append(Claim(engine.port, "", f"engine {engine.name}"))
        found.append(Claim(engine.port + 1, engine.bind, f"babysitter of {engine.name}"))
    return [claim for claim in found if claim.port]


def clashes(claimed: list[Claim]) -> Iterator[Clash]:
    """Every port that two want, with a port that nobody wants."""
    first: dict[int, Claim] = {}
    for claim in claimed:
        other = first.setdefault(claim.port, claim)
        if other is claim:
            continue
        text = f"port {claim.port} is wanted by the {other.owner} and by the {claim.owner}"
        if "babysitter" in other.owner + claim.owner:
            text += " (a babysitter listens on its engine's port + 1)"
        mover = claim if not claim.owner.startswith("babysitter") or other.owner.startswith("babysitter") else other
        yield Clash(text, f"give the {mover.owner.removeprefix('babysitter of ')} another port, e.g. {spare(claimed)}")


def spare(claimed: list[Claim]) -> int:
    """A port above all engines' whose successor is free too."""
    taken = {claim.port for claim in claimed}
    port = max((claim.port for claim in claimed if "engine" in claim.owner), default=9000) + 2
    while {port, port + 1} & taken:
        port += 2
    return port


def in_use(host: str, port: int) -> bool:
    """Whether somebody listens on this port of this machine now. Connections that are just ending do not count."""
    host = host or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False


def free_port() -> int:
    """A port nobody uses now, on any address."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def url(host: str, port: int) -> str:
    """How programs on this machine reach one that listens on `host`."""
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
