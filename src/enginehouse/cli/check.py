"""`enginehouse check FILE…`: says what is right, doubtful and wrong in a file, and how to mend it.

Owns the command and the telling of one kind of file from another. May not live here: the checks of a kind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from enginehouse.cli.findings import Finding, Level, fail, show
from enginehouse.cli.parser import Parser, load_file
from enginehouse.cli.terminal import paint, wants_colour
from enginehouse.core.config.base import ConfigError

EPILOG = """FILE may be: a house (TOML, for `up`), a babysitter's file (TOML), a file of static services (JSON),
a systemd unit (*.service) or a Containerfile.

Exit status: 1 if there is a FAIL, else 0."""


def check(arguments: list[str]) -> int:
    """Validate files, and find what would only show when the house starts: ports, programs, models, keys."""
    files = check_parser().parse_args(arguments).file
    colour = wants_colour(sys.stdout)
    found: list[Finding] = []
    for name in files:
        kind, findings = inspect(name)
        found += show(f"{name}: {kind}", findings, colour)
    failures = sum(finding.level is Level.FAIL for finding in found)
    warnings = sum(finding.level is Level.WARN for finding in found)
    verdict = paint(
        f"{_count(failures, 'failure')}, {_count(warnings, 'warning')}", "red" if failures else "bold", colour
    )
    print(verdict)
    return 1 if failures else 0


def check_parser() -> Parser:
    """Options of `check`."""
    parser = Parser("check", check.__doc__, EPILOG)
    parser.add_argument("file", metavar="FILE", nargs="+", help="what to check; several may be given")
    return parser


def inspect(name: str) -> tuple[str, Iterator[Finding]]:
    """What a file is, and what there is to say about it."""
    from enginehouse.cli import check_deploy, check_house, check_static

    path = Path(name)
    if path.suffix == ".service":
        return "a systemd unit", check_deploy.unit(path)
    if path.name.startswith(("Containerfile", "Dockerfile")) or path.suffix in (".containerfile", ".dockerfile"):
        return "a container file", check_deploy.container(path)
    if path.suffix == ".json":
        return "static services", check_static.static_services(path)
    try:
        table = load_file(name)
    except ConfigError as error:
        return "not readable", iter(
            [fail(error.problem, "write it as TOML; docs/reference/configuration.md has the keys")]
        )
    if "backend" in table or "port" in table:
        return "one engine and its babysitter", check_house.babysitter(table)
    return "a house", check_house.house(table)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
