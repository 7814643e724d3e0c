"""The pages for people: links lead somewhere, examples are valid, commands exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginehouse.cli.check_deploy import command_line
from enginehouse.cli.findings import Level
from enginehouse.control.static_file import parse
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import from_mapping
from enginehouse.core.config.house import HouseConfig

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
OURS = {"enginehouse", ".venv/bin/enginehouse", "/usr/bin/enginehouse"}
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def blocks(language: str) -> list[object]:
    """The code blocks of one language, each as a test's parameter."""
    fence = re.compile(rf"^```{language}(?: \(.*\))?\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, text in enumerate(fence.findall(page.read_text()))
    ]


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a block with their words; one may go on over lines, in quotes or behind a backslash."""
    begun = ""
    for line in text.replace("\\\n", " ").splitlines():
        begun += line + "\n"
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # a quotation that is not closed yet
            continue
        yield begun, words
        begun = ""
    assert not begun, f"a quotation is never closed: {begun}"


def ours(words: list[str]) -> list[str]:
    """A command without the one that its output goes to."""
    return words[: words.index("|")] if "|" in words else words


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", page.read_text()):
        link = next(part for part in target if part)
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.name == "README.md" or f"({page.relative_to(ROOT / 'docs')})" in index, page


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_example_in_toml_is_a_valid_piece_of_a_house_or_of_a_babysitters_file(text: str) -> None:
    table = tomllib.loads(text)
    if "engine" in table and isinstance(table["engine"], dict):  # a piece of the last [[engine]]
        table = {"port": 1, **table["engine"]}
    if {"backend", "port"} & table.keys():
        from_mapping(BabysitterConfig, {"name": "a", **table})
    else:
        from_mapping(HouseConfig, table)


@pytest.mark.parametrize("text", blocks("json"))
def test_every_example_in_json_is_an_error_or_a_list_of_static_services(text: str) -> None:
    if "error" not in json.loads(text):
        assert parse(text.encode()).rejected == ()


@pytest.mark.parametrize("text", blocks("sh"))
def test_every_command_of_ours_in_an_example_exists_with_its_options(text: str) -> None:
    for line, words in commands(text):
        places = [at for at, word in enumerate(words[:-1]) if word in OURS]
        for at in places if words and words[0] not in {"ln", "useradd", "install", "systemctl"} else []:
            if not words[at + 1].startswith(("-", "/", ".")):
                wrong = [found.text for found in command_line(ours(words[at:])) if found.level is not Level.OK]
                assert wrong == [], line


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_house_is_valid_and_closed_to_the_network(path: Path) -> None:
    house = from_mapping(HouseConfig, tomllib.loads(path.read_text()), path.name)
    assert {house.router.host, house.registry.host} == {"127.0.0.1"}


def test_the_demo_has_two_chat_models_one_of_them_on_two_services_and_one_for_embeddings() -> None:
    house = from_mapping(HouseConfig, tomllib.loads((ROOT / "examples" / "demo.toml").read_text()))
    served = [engine.backend.args[engine.backend.args.index("--alias") + 1] for engine in house.engine]
    assert sorted(map(served.count, set(served))) == [1, 1, 2]
    assert sum("--embedding" in engine.backend.args for engine in house.engine) == 1
