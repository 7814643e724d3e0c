"""`enginehouse up FILE`: reads a house file, fills in what its parts need to find each other, and keeps it standing.

Owns the command and the completing of the configuration. May not live here: processes and progress (`house`).
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from enginehouse.babysitter.recipes import order
from enginehouse.cli.options import build
from enginehouse.cli.parser import Parser, fail, load_file
from enginehouse.cli.ports import claims, clashes, free_port, in_use, url
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError, from_mapping
from enginehouse.core.config.house import HouseConfig
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig

EPILOG = """The registry, the router and one babysitter for each [[engine]] run as processes of their own, are started
again when they die, and end with this command. The first line printed is the router's URL.

Every setting of [registry] and [router] can be given in the environment too: ENGINEHOUSE_ROUTER_PORT=8090.
A registry of its own is not started where [router] names another one with registry_url."""


def up(arguments: list[str]) -> int:
    """Start a whole house on this machine from one file; Ctrl-C ends all of it in order."""
    parser = up_parser()
    name = parser.parse_args(arguments).file
    try:
        config = read_house(name)
    except ConfigError as error:
        fail(parser.prog, str(error))
    return run(parser.prog, config, name)


def up_parser() -> Parser:
    """Options of `up`."""
    parser = Parser("up", up.__doc__, EPILOG)
    parser.add_argument(
        "file", metavar="FILE", help="the house (TOML); `enginehouse check FILE` says what is wrong with it"
    )
    return parser


def run(program: str, config: HouseConfig, file: str = "") -> int:
    """Keep a house standing until it is told to stop. Returns the exit status. `file`: where it was read from."""
    from enginehouse.cli.house import House
    from enginehouse.cli.reread import of_house

    if problem := obstacle(config):
        fail(program, problem)
    whole = complete(config)
    return House(whole, of_house(file, whole.router.port, whole.registry.port) if file else ()).run()


def read_house(name: str) -> HouseConfig:
    """A house from its file and the environment. Raises `ConfigError`."""
    table = load_file(name)
    house = from_mapping(HouseConfig, table, name)
    parts: dict[str, Any] = {}
    for section, kind in (("registry", RegistryConfig), ("router", RouterConfig)):
        where = f"{name}: [{section}]"
        parts[section] = build(
            kind, section, flags={}, environment=os.environ, file=table.get(section, {}), file_name=where
        )
    return msgspec.structs.replace(house, **parts)


def complete(config: HouseConfig) -> HouseConfig:
    """The same house with its ports chosen and its parts introduced to each other, as far as the file did not."""
    registry, router = config.registry, config.router
    registry = msgspec.structs.replace(registry, port=registry.port or free_port())
    router = msgspec.structs.replace(
        router,
        port=router.port or free_port(),
        registry_url=router.registry_url or url(registry.host, registry.port),
        registry_token_file=router.registry_token_file or registry.token_file,
    )
    engines = tuple(_introduced(engine, router) for engine in config.engine)
    return HouseConfig(registry=registry, router=router, engine=engines)


def _introduced(engine: BabysitterConfig, router: RouterConfig) -> BabysitterConfig:
    return msgspec.structs.replace(
        engine,
        registry_url=engine.registry_url or router.registry_url,
        registry_token_file=engine.registry_token_file or router.registry_token_file,
        admin_token_file=engine.admin_token_file or router.admin_token_file,
        router_url=engine.router_url or url(router.host, router.port),
    )


def obstacle(config: HouseConfig) -> str:
    """Why this house cannot stand here now, "" if it can: a wrong engine, a port that two want or others have."""
    for number, engine in enumerate(config.engine):
        try:
            order(engine, os.environ)
        except ConfigError as error:
            return f"engine {engine.name or number}: {error}"
    claimed = claims(config)
    for clash in clashes(claimed):
        return f"{clash.text}\n{clash.fix}"
    for claim in claimed:
        if in_use(claim.host, claim.port):
            return (
                f"port {claim.port} for the {claim.owner} is in use by another program on this machine\n"
                "Stop that program (is this house running already?) or choose another port in the file."
            )
    return ""
