"""How figures, units and names are written, the same on every page and picture.

Owns rounding, units and the names of contestants. May not live here: which figures are shown where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from bench.report.medians import Spread

OURS: Final = "enginehouse"
PURE: Final = "enginehouse-pure"
NO_FAILOVER: Final = "enginehouse-no-failover"
DIRECT: Final = "direct"
COMPARED: Final = (OURS, "nginx", "vllm-router", "sglang-router", "litellm")
ORDER: Final = (OURS, PURE, NO_FAILOVER, *COMPARED[1:], "nginx-memory", DIRECT)
SHOWN: Final = {
    OURS: "Enginehouse",
    PURE: "Enginehouse, not compiled",
    NO_FAILOVER: "Enginehouse, streams not kept for failover",
    "litellm": "LiteLLM",
    DIRECT: "no router",
    "nginx-memory": "nginx, bodies in memory",
}
NOTHING: Final = "–"

Writer = Callable[[float], str]


def name(contestant: str) -> str:
    """As it is called on pages."""
    return SHOWN.get(contestant, contestant)


def ordered(contestants: Iterable[str]) -> list[str]:
    """Ours first, then the peers in a settled order, then whoever else, by name."""
    return sorted(contestants, key=lambda each: (ORDER.index(each) if each in ORDER else len(ORDER), each))


def figures(value: float) -> str:
    """Three significant digits, no exponent: 0.342, 18.2, 925, 10,700. Below a thousandth: 0."""
    if abs(value) < 0.0005:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    return f"{rounded:,.{min(max(2 - math.floor(math.log10(abs(rounded))), 0), 3)}f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def plural(unit: str) -> str:
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def micros(value: float) -> str:
    return f"{figures(value)} µs"


def millis(value: float) -> str:
    return f"{figures(value)} ms"


def memory(value: float) -> str:
    """Bytes, KiB, MiB or GiB: whichever leaves a number from 1."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= size:
            return f"{figures(value / size)} {unit}"
    return f"{figures(value)} bytes"


def times(value: float) -> str:
    """A ratio: 0.0018×, 0.034×, 0.34×, 1.63×, 12.5×, 840×."""
    if value < 0.1:
        return f"{value:.4f}".rstrip("0").rstrip(".") + "×" if value < 0.01 else f"{value:.3f}×"
    return f"{value:.2f}×" if value < 10 else f"{figures(value)}×"


def tick(value: float, write: Writer) -> str:
    """A round value beside an axis: without the zeros that say how exact a measured one is; zero without its unit."""
    number, _, unit = write(value).partition(" ")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {unit}" if unit and value else number


def between(low: float, high: float, write: Writer) -> str:
    """A range, its unit said once: `17.9–18.6 µs`; where both ends read the same, that alone."""
    first, last = write(low), write(high)
    if first == last:
        return last
    for unit in (f" {first.partition(' ')[2]}", "×"):
        if unit.strip() and first.endswith(unit) and last.endswith(unit):
            return f"{first.removesuffix(unit)}–{last}"
    return f"{first}–{last}"


def spread(value: Spread | None, write: Writer) -> str:
    """A cell of a table: the median, in small print the lowest and highest run."""
    if value is None:
        return NOTHING
    if value.runs == 1:
        return f"{write(value.median)} <sub>one run</sub>"
    small = between(value.low, value.high, write)
    middle = write(value.median)
    return middle if small == middle else f"{middle} <sub>{small}</sub>"


def cell(text: str) -> str:
    """Text as it may stand in a cell of a Markdown table: nothing in it is markup, and it is one line."""
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        text = text.replace(mark, instead)
    return " ".join(text.split())


def table(head: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1) -> list[str]:
    """The lines of a Markdown table: the first `left` columns aligned left, the others, which are figures, right."""
    columns = list(head)
    marks = ["---" if at < left else "---:" for at in range(len(columns))]
    return [f"| {' | '.join(row)} |" for row in (columns, marks, *map(list, rows))]
