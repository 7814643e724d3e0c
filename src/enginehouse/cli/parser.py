"""What all commands share: one way of parsing, of reading a file and of saying what is wrong.

Owns the parser class and `load_file`. May not live here: settings (derived in `options`) and what commands do.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from enginehouse.core.config.base import ConfigError

USAGE_ERROR = 2
"""Exit status for a command line, a variable or a file that cannot be used."""


class Parser(argparse.ArgumentParser):
    """argparse with exact flag names, wide help, and errors of one line that name the nearest flag."""

    def __init__(self, command: str, description: str | None, epilog: str = "") -> None:
        super().__init__(
            prog=f"enginehouse {command}",
            description=description,
            epilog=epilog or None,
            allow_abbrev=False,
            formatter_class=Format,
        )

    @property
    def flags(self) -> list[str]:
        """Every flag it knows."""
        return list(self._option_string_actions)

    @property
    def usage_words(self) -> list[str]:
        """`enginehouse up FILE [options]`, word by word: forty flags in a usage line help nobody."""
        needed = [str(action.metavar or action.dest) for action in self._actions if not action.option_strings]
        more = [f"[{word} …]" for word in needed if any(a.nargs == "+" for a in self._actions if a.metavar == word)]
        return [self.prog, *needed, *more, "[options]"]

    def format_usage(self) -> str:
        """The usage line."""
        return f"Usage: {' '.join(self.usage_words)}\n"

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but an unknown flag is named together with the nearest one."""
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(_unknown(unknown[0].split("=")[0], self.flags))
        return given

    def format_help(self) -> str:
        """Description, options in their groups, what else there is to know."""
        formatter = self._get_formatter()
        formatter.add_text(self.description)
        for group in self._action_groups:
            formatter.start_section((group.title or "").replace("positional arguments", "argument"))
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return f"{self.format_usage()}\n{formatter.format_help()}"

    def error(self, message: str) -> NoReturn:
        """One line and where to look, exit status 2."""
        fail(self.prog, f"{message}\nSee `{self.prog} --help`.")


class Format(argparse.RawDescriptionHelpFormatter):
    """Flags in a column wide enough for their names, with the option's text on the same line where it fits."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=38)


def fail(program: str, message: str) -> NoReturn:
    """Say what is wrong on the standard error and end with `USAGE_ERROR`."""
    print(f"{program}: {message}", file=sys.stderr)
    raise SystemExit(USAGE_ERROR)


def load_file(name: str) -> dict[str, Any]:
    """The table of a TOML file. Raises `ConfigError` naming the file, and the line where its syntax is wrong."""
    try:
        return tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=name) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text (byte {error.start})", where=name) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}", where=name) from None


def nearest(word: str, words: list[str]) -> str:
    """`; did you mean X?`, or nothing where no word is near."""
    longer = [each for each in words if len(word) > 3 and each.endswith(word.lstrip("-"))]  # --port, --router-port
    near = longer or difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown(word: str, flags: list[str]) -> str:
    if word.startswith("-"):
        return f"there is no option {word}{nearest(word, flags)}"
    return f"there is no place for the argument {word!r}"
