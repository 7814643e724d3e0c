"""What holds for every picture: it is XML, and its texts keep clear of each other and within its edges.

Owns `check`. May not live here: what a picture shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple
from xml.etree import ElementTree as ET

from enginehouse.replay import svg

NAMESPACE = "{http://www.w3.org/2000/svg}"


class Box(NamedTuple):
    text: str
    left: float
    top: float
    right: float
    bottom: float


def boxes(element: ET.Element, down: float = 0) -> Iterator[Box]:
    """Where every text of a picture is, as wide as its letters can be."""
    if moved := re.fullmatch(r"translate\(0 ([\d.-]+)\)", element.get("transform", "")):
        down += float(moved[1])
    if element.tag == f"{NAMESPACE}text":
        text, size = element.text or "", float(element.get("font-size", "0"))
        x, y = float(element.get("x", "0")), float(element.get("y", "0")) + down
        width = svg.text_width(text, size, " b" in element.get("class", ""))
        x -= {"middle": width / 2, "end": width}.get(element.get("text-anchor", ""), 0)
        yield Box(text, x, y - 0.75 * size, x + width, y + 0.2 * size)
    for child in element:
        yield from boxes(child, down)


def check(picture: str) -> list[Box]:
    """It is XML, its texts keep clear of each other and within its edges."""
    root = ET.fromstring(picture)
    found = list(boxes(root))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for box in found:
        assert box.left >= 0, box
        assert box.right <= width, box
        assert box.top >= 0, box
        assert box.bottom <= height, box
    for a, b in combinations(found, 2):
        apart = a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
        assert apart, (a, b)
    return found
