"""`python -m enginehouse.cli.reread`: the settings of a router, read as at its start, printed for its supervisor.

Owns the two ways in which a router gets its settings, as commands that read them again. A process of its own: the
supervisor uses the standard library only, and what goes wrong here is told on the standard error with exit status 2.
May not live here: how settings are read (`serve`, `up`), what is done with them.

    router FLAG…                        as `enginehouse router FLAG…`
    up FILE ROUTER_PORT REGISTRY_PORT   as `enginehouse up FILE` completed it when it chose these ports
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from enginehouse import __version__
from enginehouse.app import check_router
from enginehouse.cli import serve, up
from enginehouse.core.config.base import ConfigError
from enginehouse.core.config.router import RouterConfig


def of_router(arguments: Sequence[str]) -> list[str]:
    """The command for a router started with these flags."""
    return [sys.executable, "-m", __name__, "router", *arguments]


def of_house(file: str, router_port: int, registry_port: int) -> list[str]:
    """The command for the router of a house."""
    return [sys.executable, "-m", __name__, "up", file, str(router_port), str(registry_port)]


def read(arguments: list[str]) -> RouterConfig:
    """The settings. Raises `ConfigError`, or ends the process with a message."""
    kind, *rest = arguments
    if kind == "router":
        return serve.house_part(serve.router_parser(), RouterConfig, "router", rest)
    file, router_port, registry_port = rest
    house = up.read_house(file)
    replaced = msgspec.structs.replace
    registry = replaced(house.registry, port=house.registry.port or int(registry_port))
    router = replaced(house.router, port=house.router.port or int(router_port))
    return up.complete(replaced(house, registry=registry, router=router)).router


def main(arguments: list[str]) -> int:
    """Print them as JSON, with the version of this package. Returns the exit status."""
    try:
        config = read(arguments)
        check_router(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode({"version": __version__, "settings": config}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
