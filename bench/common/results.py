"""A file of results: what the machine is, what was set, and rows as they come.

Owns the shape that benches have in common (`schema` 1) and writing it. May not live here: what a row is, rendering.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.machine import commit, machine

SCHEMA = 1


class Results:
    """Rows as they come; the file is complete in itself after each `add`."""

    def __init__(
        self, path: Path, name: str, settings: Mapping[str, object], places: Sequence[str], rows: str = "rows"
    ) -> None:
        """`name` of the bench. `places`: what results depend on, in the repository. `rows`: the name of their list."""
        self.path = path
        self._began = time.monotonic()
        self._rows = rows
        known, dirty = commit(*places)
        self.data: dict[str, Any] = {
            "bench": name,
            "schema": SCHEMA,
            "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "seconds": 0.0,
            "finished": False,
            "machine": machine(),
            "commit": known,
            "dirty": dirty,
            "settings": dict(settings),
            rows: [],
        }

    def add(self, row: Mapping[str, Any]) -> None:
        """One row more."""
        self.data[self._rows].append(dict(row))
        self.write()

    def finish(self) -> None:
        """Nothing more comes."""
        self.data["finished"] = True
        self.write()

    def write(self) -> None:
        """Replace the file."""
        self.data["seconds"] = round(time.monotonic() - self._began, 1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(self.path)
