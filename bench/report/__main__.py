"""`python -m bench.report` renders what bench/results holds; `--check` only tells whether that has been done.

Owns which files are rendered, and writing them. May not live here: what stands in them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.report import failures, fuzzing, page, pictures, readme, results, routing, routing_pictures, routing_readme
from bench.report.markers import between

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = Path("docs/pictures")
OURS: Final = ("speed-*.svg", "routing-*.svg")  # in there: what is no longer rendered is removed


def outputs(root: Path) -> dict[Path, str | None]:
    """Every rendered file → its text; None for one that should not be there. ValueError says what stands in the way."""
    measured = results.load(root / "bench" / "results")
    found, routed = measured.get("proxy"), measured.get("routing")
    drawn = pictures.render(found) if found else {}
    maps = routing_pictures.render(routed) if routed else {}
    old = [path for pattern in OURS for path in (root / PICTURES).glob(pattern)]
    wanted: dict[Path, str | None] = {path.relative_to(root): None for path in old}
    wanted |= {PICTURES / name: text for name, text in (drawn | maps).items()}
    wanted[Path(routing.PAGE)] = routing.render(measured, list(maps))
    wanted[Path(failures.PAGE)] = failures.render(root / "bench" / "results")
    wanted[Path(fuzzing.PAGE)] = fuzzing.render(root / "bench" / "results")
    wanted[Path(readme.PAGE)] = page.render(found, list(drawn))
    text = (root / "README.md").read_text("utf-8")
    text = between(text, "routing", routing_readme.section(routed, _shown(maps, "routing-rates.svg")))
    wanted[Path("README.md")] = between(text, "speed", readme.section(found, _shown(drawn, "speed-cpu.svg")))
    return wanted


def _shown(drawn: Mapping[str, str], name: str) -> str:
    """Where a picture lies, if there is one."""
    return str(PICTURES / name) if name in drawn else ""


def stale(root: Path) -> list[Path]:
    """The files that are not as they would be rendered."""
    return [path for path, text in outputs(root).items() if _read(root / path) != text]


def write(root: Path) -> list[Path]:
    """Render what is stale; the paths that changed."""
    changed = stale(root)
    for path, text in outputs(root).items():
        if path not in changed:
            continue
        if text is None:
            (root / path).unlink()
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, "utf-8")
    return changed


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """0 all is as it should be, 1 something is stale, 2 results or README cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Render the results of the benches.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a rendered file is stale")
    check = parser.parse_args(arguments).check
    try:
        changed = stale(root) if check else write(root)
    except (ValueError, OSError) as wrong:
        print(f"bench.report: {wrong}", file=sys.stderr)
        return 2
    for path in changed:
        print(f"{path} is stale: run `python -m bench.report`" if check else f"wrote {path}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
