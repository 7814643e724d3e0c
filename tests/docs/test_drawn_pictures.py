"""The pictures that were drawn by hand: readable, described, and shown with their description."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pictures import check

DOCS = Path(__file__).parents[2] / "docs"
DRAWN = ["failover.svg", "wires.svg", "prefix-chunks.svg", "prefix-clock.svg", "prefix-cost.svg"]
PAGES = [page.read_text() for page in (*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md")]


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_picture_is_readable_and_every_page_that_shows_it_describes_it(name: str) -> None:
    picture = (DOCS / "pictures" / name).read_text()
    check(picture)
    described = re.search(r"<desc>(.*?)</desc>", picture, re.DOTALL)
    assert described
    shown = [alt for page in PAGES for alt in re.findall(rf"!\[([^\]]*)\]\([^)]*{name}\)", page)]
    assert shown
    assert {" ".join(alt.split()) for alt in shown} == {" ".join(described[1].split())}
