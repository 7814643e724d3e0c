"""The tutorial, typed in from its first line to its last: every command runs, and prints what the page says.

In the page's outputs `…` stands for anything, and a time or a size for any other; ports are moved to free ones. What a
program in the background prints is compared line by line, in whatever order the engines come up.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.terminal import Terminal
from tests.ports import Ports

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
#: A block with its language and where it belongs, or a key to press.
STEP = re.compile(r"^```(\w+)(?: \((terminal 1)\))?\n(.*?)^```$|\*\*(Ctrl-C)\*\*", re.DOTALL | re.MULTILINE)
#: The ports of the page and of the demo: one each for the router and the registry, two in a row for each engine.
SINGLE, PAIRS = (8080, 8081), (9000, 9010, 9020, 9100, 9110, 9120, 9130)
LOOSE = re.compile(r"(?P<anything>…)|(?P<clock>\b\d\d:\d\d:\d\d\b)|(?P<time>\b\d+(?:\.\d+)? (?:s|ms)\b)")


def pattern(text: str, anything: str) -> str:
    """An output of the page as a regular expression; `anything` stands for `…`."""
    made, end = "", 0
    for found in LOOSE.finditer(text):
        loose = {"anything": anything, "clock": r"\d\d:\d\d:\d\d", "time": r"\d+(?:\.\d+)? m?s"}
        made += re.escape(text[end : found.start()]) + loose[found.lastgroup or ""]
        end = found.end()
    return made + re.escape(text[end:])


def narrow(text: str) -> str:
    """Columns are as wide as what stands in them: that is not compared."""
    return re.sub(r" +", " ", text).strip()


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self._folder = folder
        single = {port: ports.one() for port in SINGLE}
        pairs = {port: ports.pair() for port in PAIRS}
        self._moved = single | pairs | {port + 1: moved + 1 for port, moved in pairs.items()}
        example = folder / "demo.toml"
        example.write_text(self._on_free_ports((ROOT / "examples" / "demo.toml").read_text()))
        command, router = f"{sys.executable} -m enginehouse.cli.main", f"--router http://127.0.0.1:{self._moved[8080]}"
        self._commands = {
            "scripts/demo": f"{command} demo --house {example}",
            ".venv/bin/enginehouse events": f"{command} events {router}",
            ".venv/bin/enginehouse status": f"{command} status {router}",
            ".venv/bin/enginehouse explain": f"{command} explain {router}",
            ".venv/bin/enginehouse": command,
        }
        self._environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}
        self._first: Terminal | None = None
        self._compared = 0
        self._said = ""

    def do(self, step: re.Match[str]) -> None:
        """One step of the page."""
        language, place, text, key = step.groups()
        if key:
            assert self._first
            self._first.interrupt()
        elif language == "toml":
            name = text.splitlines()[0].removeprefix("# ")
            (self._folder / name).write_text(self._on_free_ports(text))
        elif language in ("sh", "python"):
            self._run(text, language, place)
        elif place:
            self._compare_first(text)
        else:
            expected = pattern(narrow(self._with_ports(text)), r"[\s\S]*?")
            printed = re.fullmatch(expected, narrow(self._said)) is not None
            assert printed, f"the page says\n{text}\nbut this was printed\n{self._said}"

    def _run(self, text: str, language: str, place: str) -> None:
        for word, command in self._commands.items():
            text = text.replace(word, command)
        text = self._with_ports(text)
        if language == "python":
            (self._folder / "snippet.py").write_text(text)
            text = f"{sys.executable} snippet.py"
        terminal = Terminal(text, self._folder, self._environment)
        if place:
            self.close()
            self._first, self._compared = terminal, 0
            return
        terminal.finish()
        self._said = terminal.text
        terminal.close()

    def _compare_first(self, text: str) -> None:
        """All of these lines, in any order, behind those that were compared before."""
        assert self._first
        lines = [pattern(line, r"[^\n]*") for line in self._with_ports(text).splitlines()]
        self._compared = max([self._first.until(f"^{line}$", self._compared) for line in lines])

    def _with_ports(self, text: str) -> str:
        return re.sub(r"\b\d{4}\b", lambda found: str(self._moved.get(int(found[0]), found[0])), text)

    def _on_free_ports(self, house: str) -> str:
        """A house that only this machine can reach, as no other test does."""
        for part, port in {"[router]": 8080, "[registry]": 8081}.items():
            house = house.replace(f"{part}\n", f"{part}\nport = {self._moved[port]}\n")
        return re.sub(r"^port = (\d{4})\b", self._engine_port, house, flags=re.MULTILINE)

    def _engine_port(self, found: re.Match[str]) -> str:
        return f'bind = "127.0.0.1"\nport = {self._moved[int(found[1])]}'

    def close(self) -> None:
        if self._first:
            self._first.close()
            self._first = None


@pytest.fixture
def reader(tmp_path: Path, ports: Ports) -> Iterator[Reader]:
    made = Reader(tmp_path, ports)
    yield made
    made.close()


def test_every_command_of_the_tutorial_runs_and_prints_what_the_page_says(reader: Reader) -> None:
    steps = list(STEP.finditer(PAGE))
    assert len(steps) > 20
    for step in steps:
        reader.do(step)
