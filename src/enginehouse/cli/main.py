"""`enginehouse`: finds the command, imports what it needs and nothing else.

Owns the list of commands and their one-line summaries. May not live here: what a command does.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """Where a command lives: function `<name>` and, for its options, `<name>_parser` of a module of this package."""

    module: str
    summary: str


HOUSE = {
    "up": Command("up", "start a whole house on this machine from one file"),
    "check": Command("check", "validate files and say what to change before anything is started"),
    "status": Command("status", "services, models, health and requests of a running house"),
    "top": Command("top", "the same live: load, rates, first tokens, requests and events"),
    "events": Command("events", "what happened to the fleet, in order, with reasons"),
    "logs": Command("logs", "what an engine prints"),
    "explain": Command("explain", "which service would get a request, at what cost, and why"),
    "drain": Command("drain", "let a service finish what it has, and send it nothing new"),
    "reload": Command("reload", "have a running router read its settings again; no request is lost"),
    "demo": Command("demo", "a house with small real models, or with simulated ones"),
}
PARTS = {
    "router": Command("serve", "one address for all engines"),
    "registry": Command("serve", "who is in, and what they serve"),
    "babysitter": Command("serve", "start one engine and keep it alive"),
    "sim": Command("serve", "a simulated engine, for trying and testing"),
}
TOOLS = {
    "replay": Command("replay", "play a trace against any OpenAI endpoint, and see what its clients would feel"),
}
COMMANDS = HOUSE | PARTS | TOOLS

HELP = """Enginehouse: one address for a house full of inference engines.

Usage: enginehouse COMMAND [options]
       enginehouse COMMAND --help
       enginehouse --version

A whole house:
{house}

Its parts, one by one:
{parts}

For any fleet:
{tools}

Start with `enginehouse demo`, or with a file of your own, say house.toml:

  [[engine]]
  name = "chat"
  port = 9000
  backend = {{ type = "llama.cpp", model = "model.gguf" }}

and `enginehouse up house.toml`."""


def main() -> int:
    """Run the command that the command line asks for. Returns the exit status."""
    try:
        return _command(sys.argv[1:])
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # somebody reads the first lines only, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    name, *rest = arguments
    if name in ("-V", "--version", "version"):
        print(f"enginehouse {version()}")
        return 0
    if name not in COMMANDS:
        return _unknown(name)
    run: Callable[[list[str]], int] = getattr(command_module(name), name)
    from enginehouse.core.config.base import ConfigError

    try:
        return run(rest)
    except ConfigError as error:
        print(f"enginehouse {name}: {error}", file=sys.stderr)
        return 2


def command_module(name: str) -> object:
    """The module of a command, imported now."""
    return importlib.import_module(f"enginehouse.cli.{COMMANDS[name].module}")


def version() -> str:
    """The version, and whether the hot modules are compiled: `0.1.0 (compiled)`."""
    from importlib.util import find_spec

    from enginehouse import __version__

    hot = find_spec("enginehouse.core.outcome")  # found, not imported: any of them tells
    return f"{__version__} (compiled)" if hot and not (hot.origin or "").endswith(".py") else __version__


def help_text() -> str:
    """The general help."""
    groups = (HOUSE, PARTS, TOOLS)
    house, parts, tools = ("\n".join(f"  {name:<12}{c.summary}" for name, c in group.items()) for group in groups)
    return HELP.format(house=house, parts=parts, tools=tools)


def _unknown(name: str) -> int:
    from enginehouse.cli.parser import USAGE_ERROR, nearest

    kind = "option" if name.startswith("-") else "command"
    words = ["--help", "--version"] if kind == "option" else list(COMMANDS)
    print(f"enginehouse: there is no {kind} {name}{nearest(name, words)}\nSee `enginehouse --help`.", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
