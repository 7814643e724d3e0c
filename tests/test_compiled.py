"""The hot modules: which may be compiled, and that the tests run on what they are meant to run on.

`scripts/test` tests the sources, `scripts/test --compiled` the same modules compiled (in .venv-compiled).
"""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import msgspec
import psutil
import pytest

import enginehouse
from tests.contract.router import Router, send

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "enginehouse"
COMPILED = Path(sys.prefix).name == ".venv-compiled"

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOT: list[str] = PROJECT["tool"]["enginehouse"]["compile"]


@pytest.mark.parametrize("module", HOT)
def test_a_hot_module_is_compiled_in_the_compiled_run_and_a_source_in_the_other(module: str) -> None:
    file = importlib.import_module(f"enginehouse.{module.replace('/', '.')}").__file__
    assert file
    assert file.endswith(tuple(EXTENSION_SUFFIXES) if COMPILED else (".py",))
    assert Path(file).is_file()
    assert Path(file).is_relative_to(sys.prefix if COMPILED else SOURCE)


def test_no_other_module_is_compiled() -> None:
    package = Path(enginehouse.__file__).parent
    found = {file.relative_to(package).as_posix().partition(".")[0] for file in package.rglob("*.so")}
    assert found == (set(HOT) if COMPILED else set())


@pytest.mark.parametrize("command", [["-m", "enginehouse.cli.main"], [str(Path(sys.prefix, "bin", "enginehouse"))]])
def test_a_program_started_by_a_test_runs_what_the_test_runs_and_says_so(command: list[str], tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, *command, "--version"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert told == f"enginehouse {enginehouse.__version__}{' (compiled)' if COMPILED else ''}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which libraries another process has loaded")
def test_a_worker_has_loaded_the_compiled_library_exactly_when_there_is_one(tmp_path: Path) -> None:
    router = Router(tmp_path / "log", ["--workers", "1"])
    try:
        assert send(router.url, "GET", "/livez").status == 200
        family = psutil.Process(router.process.pid).children(recursive=True)
        libraries = {Path(mapped.path).name for process in family for mapped in process.memory_maps()}
    finally:
        router.stop()
    assert any(name.startswith("libc") for name in libraries)
    assert any(name.startswith("enginehouse__mypyc.") for name in libraries) == COMPILED


def test_hot_modules_exist_and_are_listed_once_in_order() -> None:
    assert [module for module in HOT if not (SOURCE / f"{module}.py").is_file()] == []
    assert sorted(set(HOT)) == HOT


@pytest.mark.parametrize("module", HOT)
def test_a_hot_module_defines_no_struct_for_a_compiled_class_has_no_annotations_to_read(module: str) -> None:
    source = (SOURCE / f"{module}.py").read_text()
    imported = importlib.import_module(f"enginehouse.{module.replace('/', '.')}")
    classes = {node.name: getattr(imported, node.name) for node in classes_of(ast.parse(source))}
    assert [name for name, made in classes.items() if issubclass(made, msgspec.Struct)] == []


def classes_of(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """The classes at the top of a module, its own ones only."""
    return (node for node in tree.body if isinstance(node, ast.ClassDef))


def test_the_compiler_that_a_build_asks_for_is_the_one_that_the_tests_have_locked() -> None:
    (wanted,) = PROJECT["dependency-groups"]["compile"]
    assert f"{wanted} \\\n" in (ROOT / "requirements" / "test.lock").read_text()
