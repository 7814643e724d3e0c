"""What a check found: a level, a sentence and the fix.

Owns `Finding` and how findings are printed. May not live here: the checks themselves.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from enginehouse.cli.terminal import paint


class Level(enum.Enum):
    """How bad it is; the value is its colour."""

    OK = "green"
    WARN = "yellow"
    FAIL = "red"


class Finding(NamedTuple):
    """One line of `enginehouse check`."""

    level: Level
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """Something that was checked and is right."""
    return Finding(Level.OK, text)


def warn(text: str, fix: str) -> Finding:
    """It will start, but somebody should know."""
    return Finding(Level.WARN, text, fix)


def fail(text: str, fix: str) -> Finding:
    """It will not work like this."""
    return Finding(Level.FAIL, text, fix)


def show(title: str, findings: Iterable[Finding], colour: bool) -> list[Finding]:
    """Print them under a title as they come; returns them."""
    print(paint(title, "bold", colour))
    kept = []
    for finding in findings:
        kept.append(finding)
        print(f"  {paint(f'{finding.level.name:<5}', finding.level.value, colour)} {finding.text}")
        if finding.fix:
            print(f"        {paint('→', 'dim', colour)} {finding.fix}")
    return kept
