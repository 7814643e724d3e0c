"""Checks of a house file and of a babysitter's file, beyond what the settings structs refuse by themselves.

Owns what the parts of a house must agree on: names, ports, files, times, who may reach them. May not live here: types
and bounds of single settings (`core.config`), what a kind of engine needs (`babysitter.recipes`).
"""

from __future__ import annotations

import ipaddress
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from enginehouse.cli.check_engine import engine, readable, secret_file
from enginehouse.cli.check_static import static_services
from enginehouse.cli.findings import Finding, fail, ok, warn
from enginehouse.cli.ports import claims, clashes, in_use
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError, from_mapping
from enginehouse.core.config.house import HouseConfig
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig

OPEN = ("0.0.0.0", "::", "")


def house(table: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything about a house; only its syntax, if that is wrong."""
    try:
        config = from_mapping(HouseConfig, table)
    except ConfigError as error:
        yield fail(str(error), "docs/reference/configuration.md has every key with its meaning")
        return
    yield ok(f"keys and values: {len(config.engine)} engine{'' if len(config.engine) == 1 else 's'}")
    yield from _names(config)
    yield from _ports(config)
    for one in config.engine:
        yield from engine(one)
    yield from _registry(config.registry)
    yield from _router(config.router)
    yield from _times(config)


def babysitter(table: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything about one engine on its own."""
    backend = table.get("backend")
    kind = backend.get("type", "command") if isinstance(backend, dict) else "command"
    try:
        config = from_mapping(BabysitterConfig, {"name": f"{kind}-{table.get('port')}", **table})
    except ConfigError as error:
        yield fail(str(error), "docs/reference/configuration.md has every key with its meaning")
        return
    yield ok("keys and values")
    yield from _ports(HouseConfig(engine=(config,)), alone=True)
    yield from engine(config)
    if not config.registry_url:
        yield warn("no registry_url: no router will hear of this engine", 'add registry_url = "http://HOST:8081"')
    elif config.host in ("localhost", "127.0.0.1", "::1") and not any(h in config.registry_url for h in LOCAL):
        yield warn(
            f"registers as {config.host} with a registry on another machine",
            "set host to the name or address under which the router reaches this machine",
        )


LOCAL = ("//localhost", "//127.", "//[::1]")


def _names(config: HouseConfig) -> Iterator[Finding]:
    """A babysitter registers NAME and NAME-server, so both must be free."""
    taken = Counter(name for one in config.engine for name in (one.name, f"{one.name}-server"))
    for name, times in taken.items():
        if times > 1:
            yield fail(
                f"{times} services would register as {name}",
                "rename one of the engines: each takes NAME and NAME-server",
            )
    if not config.engine and not config.router.static_services and not config.router.registry_url:
        yield warn(
            "no engine, no static services, no other registry: there is nothing to route to", "add an [[engine]]"
        )


def _ports(config: HouseConfig, alone: bool = False) -> Iterator[Finding]:
    claimed = [claim for claim in claims(config) if not alone or claim.owner.startswith(("engine", "babysitter"))]
    wrong = list(clashes(claimed))
    for clash in wrong:
        yield fail(clash.text, clash.fix)
    busy = [claim for claim in claimed if in_use(claim.host, claim.port)]
    for claim in busy:
        yield warn(
            f"port {claim.port} ({claim.owner}) is in use now", "fine if this house is running; else choose another"
        )
    if not wrong and not busy:
        yield ok("ports: " + ", ".join(f"{claim.port} {claim.owner}" for claim in claimed))


def _registry(config: RegistryConfig) -> Iterator[Finding]:
    yield from secret_file("registry.token_file", config.token_file)
    yield from _networks("registry.allow_networks", config.allow_networks)
    if config.host in OPEN and not config.token_file:
        yield warn(
            f"the registry listens on {config.host or 'all addresses'} without a token: who reaches it can register a "
            "service and read the prompts sent to it",
            'set registry.host = "127.0.0.1", or registry.token_file',
        )
    if config.journal and not os.access(Path(config.journal).resolve().parent, os.W_OK):
        yield fail(
            f"the registry's journal {config.journal} cannot be written", "choose a folder that exists and is yours"
        )


def _router(config: RouterConfig) -> Iterator[Finding]:
    yield from secret_file("router.registry_token_file", config.registry_token_file)
    yield from secret_file("router.admin_token_file", config.admin_token_file)
    yield from secret_file("router.otlp_headers_file", config.otlp_headers_file)
    yield from _networks("router.allow_networks", config.allow_networks)
    yield from _networks("router.trusted_proxies", config.trusted_proxies)
    if config.static_services:
        for found in static_services(Path(config.static_services)):
            yield found._replace(text=f"{config.static_services}: {found.text}")
    for access in config.engines:
        where = f"router.engines for {access.services}"
        yield from secret_file(f"{where}: api_key_file", access.api_key_file)
        if access.api_key_env and not os.environ.get(access.api_key_env):
            yield warn(f"{where}: the variable {access.api_key_env} is not set here", "set it where the router runs")
        if access.ca_file and not readable(access.ca_file):
            yield fail(f"{where}: ca_file {access.ca_file} cannot be read", "give the PEM file of the authority")
    aliases = Counter(alias for model in config.models.values() for alias in model.aliases)
    for alias, times in aliases.items():
        if times > 1:
            yield fail(f"{times} models have the alias {alias}", "an alias can mean one model only")
    if config.host in OPEN:
        yield warn(
            f"the router listens on {config.host or 'all addresses'} and asks nobody for a key: who reaches it can use "
            "the engines",
            'set router.host = "127.0.0.1", or let only your own network reach it',
        )


def _times(config: HouseConfig) -> Iterator[Finding]:
    for part, section in (("registry", config.registry), ("router", config.router)):
        if section.health_timeout > section.health_interval:
            yield warn(f"{part}.health_timeout is longer than health_interval", "a probe should end before the next")
    if config.registry.remove_after <= config.registry.stale_after:
        yield warn("registry.remove_after is not longer than stale_after", "services vanish before they look unhealthy")
    for one in config.engine:
        if one.babysitter.heartbeat_interval * 2 > config.registry.stale_after:
            yield fail(
                f"engine {one.name}: a heartbeat every {one.babysitter.heartbeat_interval:g} s is too rare for a "
                f"registry that takes {config.registry.stale_after:g} s of silence for illness",
                "make heartbeat_interval at most half of registry.stale_after",
            )


def _networks(key: str, blocks: tuple[str, ...]) -> Iterator[Finding]:
    for block in blocks:
        try:
            ipaddress.ip_network(block, strict=False)
        except ValueError:
            yield fail(f"{key}: {block!r} is not a CIDR block", "write it as 10.0.0.0/8 or fd00::/8")
