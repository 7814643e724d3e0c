"""No defect of the inherited system is forgotten: each sentence about one has tests, and these tests exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.defects import PARAGRAPHS, TABLE

ROOT = Path(__file__).parents[2]


def sentences(paragraph: str) -> list[str]:
    """Its sentences: each ends with a full stop before a blank and a word that could begin one."""
    text = " ".join(paragraph.split())
    return re.split(r"(?<=\.) (?=[A-Z`\"])", text)


def test_every_sentence_is_in_the_table_and_nothing_else_is() -> None:
    assert [sentence for paragraph in PARAGRAPHS for sentence in sentences(paragraph)] == list(TABLE)


@pytest.mark.parametrize("sentence", TABLE)
def test_every_sentence_has_tests_or_says_what_brings_them_later(sentence: str) -> None:
    mended = TABLE[sentence]
    assert mended.node_ids or mended.later


def test_every_test_of_the_table_is_collected() -> None:
    wanted = {node for mended in TABLE.values() for node in mended.node_ids}
    files = sorted({node.partition("::")[0] for node in wanted})
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", *files]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    assert wanted <= {line.partition("[")[0] for line in done.stdout.splitlines()}


def docstrings(file: Path) -> dict[str, str]:
    """Docstrings of the tests in a file, by name."""
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name: ast.get_docstring(function) or "" for function in functions}


@pytest.mark.parametrize("sentence", [sentence for sentence, mended in TABLE.items() if mended.tests])
def test_the_tests_of_a_defect_say_which_defect_they_are_about(sentence: str) -> None:
    for file, names in TABLE[sentence].tests.items():
        said = docstrings(ROOT / "tests" / f"{file}.py")
        for name in names:
            assert "Defect" in said[name], f"{file}: {name}"
