"""The file of results: what the machine is, who took part, what was measured.

Owns the shape (`schema` 1), writing it, and taking out what belongs to this machine only. May not live here: rendering.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCHEMA = 1
#: Lines of a configuration that differ in numbers only are shown this often.
_SHOWN = 2

EXCLUDED = [
    "The CPU of the backend and of the load, which run on a core of their own.",
    "CPU time that the kernel books on its own threads or on nobody.",
    "Nothing of the loopback: the receiver's half of each packet is booked on its sender, for every contestant alike.",
    "The seconds in which a contestant warms up; connections of the load are opened inside the measured interval.",
    "Memory of the kernel: buffers of sockets are in nobody's resident bytes.",
    "LiteLLM where it would do less than is under way: 512 connections, 64 KB bodies, long streams, services, workers.",
    "Requests that were under way when the load ended: their CPU is counted, they are not (at most one a connection).",
]


class Results:
    """Figures as they come; the file is complete in itself after each `write()`."""

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        self._path = path
        self._began = time.monotonic()
        at, dirty = commit("src", "bench/proxy")
        self.data: dict[str, Any] = {
            "bench": "proxy",
            "schema": SCHEMA,
            "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "seconds": 0.0,
            "finished": False,
            "machine": machine(),
            "commit": at,
            "dirty": dirty,
            "settings": dict(settings),
            "excluded": EXCLUDED,
            "contestants": {},
            "skipped": {},
            "failed": [],
            "measurements": [],
        }

    def describe(self, name: str, case: str, facts: Mapping[str, str], configs: Mapping[str, str]) -> None:
        """Who took part in a case, with what: a configuration is kept where it differs from those of earlier cases."""
        entry = self.data["contestants"].setdefault(name, {**facts, "configs": {}})
        for file, text in configs.items():
            if text not in entry["configs"].values():
                entry["configs"][f"{file} ({case})" if file in entry["configs"] else file] = text

    def write(self) -> None:
        """Replace the file."""
        self.data["seconds"] = round(time.monotonic() - self._began, 1)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(self._path)


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
