"""Checks of our own, for what no linter of the trade says: sizes, opening docstrings, and who reads the environment.

Owns these four rules and their numbers. May not live here: anything that ruff, mypy or import-linter can check.
Usage: `python -m tools.house_rules DIRECTORY...`; prints one line for each offence and exits 1 if there is one.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 59

# The environment is input like any other: it is read where the configuration is put together, and handed on from there.
# What lies in engines/ are programs of their own, started by a babysitter as any other engine.
MAY_READ_ENVIRONMENT = ("app.py", "cli/", "engines/", "__main__.py")
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def offences(source: str, path: str) -> Iterator[str]:
    """What is wrong with one file. `path` is relative to the package, as in `core/fleet.py`."""
    lines = len(source.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{path}:1: {lines} lines, at most {MAX_FILE_LINES}: find the second idea in it and move that out"
    tree = ast.parse(source, path)
    if not ast.get_docstring(tree):
        yield f"{path}:1: open the file with a docstring: what it owns, and what may not live here"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: `{node.name}` has {length} lines, at most {MAX_FUNCTION_LINES}"
        elif (line := _reads_environment(node)) and not path.startswith(MAY_READ_ENVIRONMENT):
            yield f"{path}:{line}: only app.py and cli/ read the environment: take the value as an argument"


def _reads_environment(node: ast.AST) -> int:
    """The line on which it does, 0 if it does not."""
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in ENVIRONMENT:
            return node.lineno
        case ast.ImportFrom(module="os", names=names) if any(name.name in ENVIRONMENT for name in names):
            return node.lineno
    return 0


def main(directories: list[str]) -> int:
    """Check every Python file below the directories; the exit status."""
    found = 0
    for directory in directories:
        for file in sorted(Path(directory).rglob("*.py")):
            for offence in offences(file.read_text(encoding="utf-8"), file.relative_to(directory).as_posix()):
                print(f"{directory}/{offence}")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
