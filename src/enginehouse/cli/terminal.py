"""Colours, where a terminal wants them.

Owns the decision whether to colour and the few colours used. May not live here: tables (rich makes them, in `status`).
"""

from __future__ import annotations

import os
from typing import TextIO

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def wants_colour(stream: TextIO) -> bool:
    """A terminal that is not dumb, and nobody said NO_COLOR (https://no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, wanted: bool) -> str:
    """The text in a colour, or as it is."""
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if wanted else text
