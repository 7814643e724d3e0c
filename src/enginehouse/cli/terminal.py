"""Colours, where a terminal wants them.

Owns the decision whether to colour, the few colours used, and making what others wrote harmless. May not live here:
tables (rich makes them, in `status`).
"""

from __future__ import annotations

import os
import re
from typing import TextIO

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def wants_colour(stream: TextIO) -> bool:
    """A terminal that is not dumb, and nobody said NO_COLOR (https://no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, wanted: bool) -> str:
    """The text in a colour, or as it is."""
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if wanted else text


def printable(text: str) -> str:
    """What others have written, for a terminal: without anything that moves its cursor or speaks to it."""
    return _CONTROL.sub("", _ESCAPES.sub("", text))


#: Sequences as colours are made of, whole; and every control character but the tab.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
