"""Drawing: text that is SVG, its two colour schemes, and how wide words are.

Owns the look of every picture, those of the benches too. May not live here: charts, and what they show.
A picture carries its own background, so it is legible on any page; it follows the reader's choice of light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

WIDTH: Final = 640
PAD: Final = 26
TEXT: Final = 15.0
SMALL: Final = 13.5

_LIGHT: Final = {
    "card": "#fbfaf7",
    "ink": "#1f2933",
    "soft": "#5b6672",
    "grid": "#e3dfd6",
    "axis": "#b8b2a6",
    "ours": "#c2410c",
    "peer": "#9fb0bf",
    "mark": "#33414e",
    "line": "#64748b",
}
_DARK: Final = {
    "card": "#14191f",
    "ink": "#e8edf2",
    "soft": "#a3afbb",
    "grid": "#29313a",
    "axis": "#4a5561",
    "ours": "#fb8b4b",
    "peer": "#566778",
    "mark": "#d3dce4",
    "line": "#93a3b3",
}


def _colours(of: dict[str, str]) -> str:
    """Classes: `f-NAME` fills with a colour, `s-NAME` strokes with it."""
    return "".join(f".f-{name}{{fill:{colour}}}.s-{name}{{stroke:{colour}}}" for name, colour in of.items())


STYLE: Final = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-variant-numeric:tabular-nums}"
    ".b{font-weight:600}.s{fill:none;stroke-linecap:round;stroke-linejoin:round}"
    f"{_colours(_LIGHT)}@media(prefers-color-scheme:dark){{{_colours(_DARK)}}}"
)

_NARROW: Final = frozenset("iljtfrI.,:;|!'’()[]/ -·")
_WIDE: Final = frozenset("mwMWÄÖÜ@%—µ×")


def n(value: float) -> str:
    """A coordinate: at most one decimal, never `-0`, so that the same picture is the same file everywhere."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def text_width(text: str, size: float = TEXT, bold: bool = False) -> float:
    """How wide a text is at most, in the widest of the usual system fonts. No font is asked: they differ by reader."""
    units = sum(0.40 if c in _NARROW else 0.92 if c in _WIDE else 0.70 if c.isupper() else 0.63 for c in text)
    return units * size * (1.07 if bold else 1.0)


def clipped(text: str, room: float, size: float = TEXT, bold: bool = False) -> str:
    """The text, or its beginning and an ellipsis where it is wider than the room."""
    if text_width(text, size, bold) <= room:
        return text
    while text and text_width(f"{text}…", size, bold) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrapped(text: str, room: float, size: float = TEXT) -> list[str]:
    """The text in lines no wider than the room; a word that is wider is cut."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(clipped(word, room, size))
    return lines


def text(
    x: float, y: float, words: str, colour: str = "ink", size: float = TEXT, anchor: str = "", bold: bool = False
) -> str:
    """Words with their baseline at y. `anchor`: "middle" or "end"; else they start at x."""
    where = f' text-anchor="{anchor}"' if anchor else ""
    look = f'class="f-{colour}{" b" if bold else ""}" font-size="{n(size)}"{where}'
    return f'<text x="{n(x)}" y="{n(y)}" {look}>{escape(clean(words))}</text>'


def rect(x: float, y: float, width: float, height: float, colour: str, radius: float = 0) -> str:
    round_ = f' rx="{n(radius)}"' if radius else ""
    return f'<rect x="{n(x)}" y="{n(y)}" width="{n(max(width, 0))}" height="{n(height)}"{round_} class="f-{colour}"/>'


def path(
    points: Sequence[tuple[float, float]], colour: str, width: float = 1, dashes: str = "", opacity: float = 1
) -> str:
    """A line through the points."""
    steps = " ".join(f"{n(x)} {n(y)}" for x, y in points)
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    faint = f' stroke-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return f'<path d="M{steps}" class="s s-{colour}" stroke-width="{n(width)}"{dash}{faint}/>'


def area(points: Sequence[tuple[float, float]], base: float, colour: str, opacity: float) -> str:
    """What lies between the points and a base line."""
    closed = [(points[0][0], base), *points, (points[-1][0], base)]
    steps = " ".join(f"{n(x)} {n(y)}" for x, y in closed)
    return f'<path d="M{steps}Z" class="f-{colour}" fill-opacity="{opacity:.2f}"/>'


def mark(shape: int, x: float, y: float, colour: str, size: float = 4.5) -> str:
    """A sign on a line: circle, square, diamond, triangle, cross; told apart without colour. Edged in the card's."""
    edge = f'class="f-{colour} s-card" stroke-width="1.5"'
    match shape % 5:
        case 0:
            return f'<circle cx="{n(x)}" cy="{n(y)}" r="{n(size)}" {edge}/>'
        case 1:
            r = size * 0.9
            return f'<rect x="{n(x - r)}" y="{n(y - r)}" width="{n(2 * r)}" height="{n(2 * r)}" {edge}/>'
        case 2:
            r = size * 1.3
            return f'<path d="M{n(x)} {n(y - r)} {n(x + r)} {n(y)} {n(x)} {n(y + r)} {n(x - r)} {n(y)}Z" {edge}/>'
        case 3:
            r = size * 1.2
            return f'<path d="M{n(x)} {n(y - r)} {n(x + r)} {n(y + r)} {n(x - r)} {n(y + r)}Z" {edge}/>'
        case _:
            r = size * 0.8
            steps = f"M{n(x - r)} {n(y - r)} {n(x + r)} {n(y + r)}M{n(x + r)} {n(y - r)} {n(x - r)} {n(y + r)}"
            return f'<path d="{steps}" class="s s-{colour}" stroke-width="2"/>'


def whisker(low: float, high: float, y: float, colour: str = "mark", cap: float = 4) -> str:
    """A horizontal line from the lowest to the highest run."""
    steps = f"M{n(low)} {n(y)} {n(high)} {n(y)}"
    for x in (low, high):
        steps += f"M{n(x)} {n(y - cap)} {n(x)} {n(y + cap)}"
    return f'<path d="{steps}" class="s s-{colour}" stroke-width="1.5"/>'


def moved(parts: Iterable[str], y: float) -> str:
    """Parts drawn for the top of a page, further down."""
    inside = "\n".join(parts)
    return f'<g transform="translate(0 {n(y)})">\n{inside}\n</g>'


def clean(words: str) -> str:
    """Without the characters that XML does not allow."""
    return re.sub(r"[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", words)


def document(title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """The whole picture. Title and description are what a screen reader says."""
    size = f'viewBox="0 0 {WIDTH} {n(height)}" width="{WIDTH}" height="{n(height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(clean(title))}>',
        f"<title>{escape(clean(title))}</title>",
        f"<desc>{escape(clean(description))}</desc>",
        f"<style>{STYLE}</style>",
        rect(0, 0, WIDTH, height, "card", 10),
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)
