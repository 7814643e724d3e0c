"""`enginehouse`: finds the command, imports what it needs and nothing else.

Owns the list of commands and their one-line summaries. May not live here: what a command does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

#: Command: module, function, summary.
COMMANDS = {
    "up": ("up", "main", "start a whole house on this machine from one file"),
    "check": ("check", "main", "validate files and say what to change before anything is started"),
    "status": ("status", "main", "services, models, health and requests of a running house"),
    "demo": ("demo", "main", "a house with small real models, or with simulated ones"),
    "router": ("serve", "router", "one address for all engines"),
    "registry": ("serve", "registry", "who is in, and what they serve"),
    "babysitter": ("serve", "babysitter", "start one engine and keep it alive"),
    "sim": ("serve", "sim", "a simulated engine, for trying and testing"),
}

HELP = """Enginehouse: one address for a house full of inference engines.

Usage: enginehouse COMMAND [options]
       enginehouse COMMAND --help
       enginehouse --version

A whole house:
{house}

Its parts, one by one:
{parts}

Start with `enginehouse demo`, or with a file of your own:

  [[engine]]
  name = "chat"
  port = 9000
  backend = {{ type = "llama.cpp", model = "model.gguf" }}

and `enginehouse up FILE`."""


def main() -> int:
    """Run the command that the command line asks for. Returns the exit status."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    name, *rest = arguments
    if name in ("-V", "--version", "version"):
        from enginehouse import __version__

        print(f"enginehouse {__version__}")
        return 0
    if name not in COMMANDS:
        return _unknown(name)
    module, function, _ = COMMANDS[name]
    run: Callable[[list[str]], int] = getattr(importlib.import_module(f"enginehouse.cli.{module}"), function)
    try:
        return run(rest)
    except KeyboardInterrupt:
        return 130


def help_text() -> str:
    """The general help."""
    lines = {name: f"  {name:<12}{summary}" for name, (_, _, summary) in COMMANDS.items()}
    names = list(COMMANDS)
    return HELP.format(
        house="\n".join(lines[name] for name in names[:4]), parts="\n".join(lines[name] for name in names[4:])
    )


def _unknown(name: str) -> int:
    from enginehouse.cli.parser import USAGE_ERROR, nearest

    kind = "option" if name.startswith("-") else "command"
    words = ["--help", "--version"] if kind == "option" else list(COMMANDS)
    print(f"enginehouse: there is no {kind} {name}{nearest(name, words)}\nSee `enginehouse --help`.", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
