"""`enginehouse registry | router | babysitter | sim`: one long-running part each.

Owns which settings, file and environment make the configuration of a part. May not live here: running it (`app`).
"""

from __future__ import annotations

import argparse
import os
from typing import Any, TypeVar

from enginehouse.cli.options import add_flags, build, settings
from enginehouse.cli.parser import Parser, fail, load_file
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import Config, ConfigError, from_mapping
from enginehouse.core.config.house import HouseConfig
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.config.sim import SimConfig

C = TypeVar("C", bound=Config)

ENVIRONMENT = """
Every option can also be given in the environment, as {names}:
{example}.
What is given last wins: defaults, file, environment, flags."""


def registry(arguments: list[str]) -> int:
    """Keep the list of services: they register, send heartbeats and are looked up here."""
    config = house_part(registry_parser(), RegistryConfig, "registry", arguments)
    from enginehouse.app import run_registry

    return run_registry(config)


def router(arguments: list[str]) -> int:
    """One address for all engines: every request goes to one that serves its model."""
    config = house_part(router_parser(), RouterConfig, "router", arguments)
    from enginehouse.app import run_router
    from enginehouse.cli.reread import of_router

    return run_router(config, of_router(arguments))


def babysitter(arguments: list[str]) -> int:
    """Start one engine, keep it alive, and register it while it is ready."""
    config = babysitter_config(arguments)
    from enginehouse.app import run_babysitter

    return run_babysitter(config)


def sim(arguments: list[str]) -> int:
    """A simulated engine: chat, completions, embeddings and models without a model, with faults on demand."""
    parser = sim_parser()
    config = finish(parser, SimConfig, "sim", vars(parser.parse_args(arguments)))
    from enginehouse.app import run_sim

    return run_sim(config)


def registry_parser() -> Parser:
    """Options of `registry`."""
    return _house_parser(registry.__doc__, RegistryConfig, "registry")


def router_parser() -> Parser:
    """Options of `router`."""
    return _house_parser(router.__doc__, RouterConfig, "router")


def babysitter_parser() -> Parser:
    """Options of `babysitter`."""
    parser = Parser("babysitter", babysitter.__doc__, _environment(BabysitterConfig, "babysitter"))
    parser.add_argument("--config-file", metavar="FILE", help="file (TOML) with the shape of one [[engine]]")
    parser.add_argument("--path", metavar="PATH", help="model, configuration file or program, as the kind needs it")
    add_flags(parser, BabysitterConfig, "babysitter", derived={"name"})
    return parser


def sim_parser() -> Parser:
    """Options of `sim`."""
    parser = Parser("sim", sim.__doc__, _environment(SimConfig, "sim"))
    add_flags(parser, SimConfig, "sim")
    return parser


def _house_parser(description: str | None, kind: type[Config], section: str) -> Parser:
    parser = Parser(section, description, _environment(kind, section))
    parser.add_argument("--config", metavar="FILE", help=f"house file (TOML) whose [{section}] is used")
    add_flags(parser, kind, section)
    return parser


def house_part(parser: Parser, kind: type[C], section: str, arguments: list[str]) -> C:
    """The configuration of the registry or the router: flags, environment, and its table of a house file."""
    flags = vars(parser.parse_args(arguments))
    name, file = flags.pop("config"), {}
    if name:
        try:
            house = load_file(name)
            from_mapping(HouseConfig, house, name)
        except ConfigError as error:
            fail(parser.prog, str(error))
        file = house.get(section, {})
    return finish(parser, kind, section, flags, file, f"{name}: [{section}]" if name else "")


def babysitter_config(arguments: list[str]) -> BabysitterConfig:
    """The configuration of a babysitter, with what the inherited program derived: kind, path and name."""
    parser = babysitter_parser()
    flags = vars(parser.parse_args(_joined(arguments)))
    file_name, path, file = flags.pop("config_file"), flags.pop("path"), {}
    try:
        file = load_file(file_name) if file_name else {}
    except ConfigError as error:
        fail(parser.prog, str(error))
    backend = file.get("backend")
    kind = flags.get("backend.type") or (backend.get("type") if isinstance(backend, dict) else "") or "command"
    if "backend.type" in flags:
        flags["backend.type"] = kind = kind.lower()
    if path:
        flags[PATHS.get(kind, "backend.model")] = path
    port = flags.get("port") or os.environ.get("ENGINEHOUSE_BABYSITTER_PORT") or file.get("port")
    if not file.get("name"):
        file = {"name": f"{kind}-{port}", **file}
    return finish(parser, BabysitterConfig, "babysitter", flags, file, file_name or "")


# What `--path` means for a kind of engine.
PATHS = {
    "command": "backend.command",
    "mock": "backend.command",
    "infinilm": "backend.model_path",
    "infinilm-rust": "backend.config_file",
}


def finish(
    parser: argparse.ArgumentParser,
    kind: type[C],
    section: str,
    flags: dict[str, Any],
    file: dict[str, Any] | None = None,
    file_name: str = "",
) -> C:
    """Merge, or end with a message."""
    try:
        return build(kind, section, flags=flags, environment=os.environ, file=file, file_name=file_name)
    except ConfigError as error:
        fail(parser.prog, str(error))


def _environment(kind: type[Config], section: str) -> str:
    """What the help says about variables."""
    known = list(settings(kind, section))
    example = known[1]
    sections = dict.fromkeys(f"ENGINEHOUSE_{setting.section.upper()}_NAME" for setting in known)
    text = ENVIRONMENT.format(names=" or ".join(sections), example=f"{example.variable} for {example.option.flag}")
    if inherited := dict.fromkeys(s.option.env for s in known if s.option.env):
        text += f"\nInherited names: {', '.join(inherited)}."
    return text.strip()


def _joined(arguments: list[str]) -> list[str]:
    """`--args X` as `--args=X`: what belongs to the engine may begin with a dash."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--args":
            joined[-1] = f"--args={argument}"
        else:
            joined.append(argument)
    return joined
