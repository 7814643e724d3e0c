"""This machine and this checkout, for files of results; and taking out of texts what belongs to them only.

Owns `machine()`, `commit()`, `portable()` and `shortened()`. May not live here: the shape of any file of results.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Lines of a configuration that differ in numbers only are shown this often.
_SHOWN = 2


def machine() -> dict[str, object]:
    """What matters of this machine for the figures."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def portable(text: str, ports: Collection[int] = ()) -> str:
    """`text` without the folders and `ports` that mean something on this machine and in this run only."""
    for folder in (ROOT, sys.prefix):
        text = re.sub(re.escape(str(folder)) + r"/(?:[^\s\"'/]+/)*", "", text)
    for port in ports:
        text = re.sub(rf"\b{port}\b", "PORT", text)
    return text


def shortened(text: str) -> str:
    """`text` with long rows of lines that differ in numbers only cut down to the first ones."""
    kept: list[str] = []
    row = 0
    pattern = ""
    for line in [*text.splitlines(), ""]:
        form = re.sub(r"\d+", "0", line)
        form = re.sub(r'\[("[^"]*"(, )?)+\]', "[]", form)
        row = row + 1 if form == pattern and form.strip() else 0
        if row == 0 or row < _SHOWN:
            kept.append(line)
        elif row == _SHOWN:
            kept.append("")
        if row >= _SHOWN:
            kept[-1] = f"{line[: len(line) - len(line.lstrip())]}… and {row - _SHOWN + 1} more lines like these"
        pattern = form
    return "\n".join(kept)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit(*places: str) -> tuple[str, bool]:
    """The commit measured and whether files in these places differ from it; ("", True) outside a repository."""
    try:
        return _git("rev-parse", "--short", "HEAD").strip(), bool(_git("status", "--porcelain", "--", *places).strip())
    except (OSError, subprocess.CalledProcessError):
        return "", True


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
