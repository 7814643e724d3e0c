"""The file of results: what the machine is, who took part, what was measured.

Owns the shape (`schema` 1) and writing it. May not live here: rendering, what the machine is (`bench.common.machine`).
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.common.machine import commit, machine

SCHEMA = 1

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
        at, dirty = commit("src", "bench/common", "bench/contestants", "bench/proxy")
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
