"""A file of results: what the machine is, what was set, and rows as they come.

Owns the shape that benches have in common (`schema` 1) and writing it. May not live here: what a row is, rendering.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.machine import ROOT, commit, machine
from bench.common.processes import BenchError

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

    def resume(self, *places: str) -> None:
        """Go on with what the file holds of a run that was interrupted; nothing where there is none.

        Raises `BenchError` where what was measured, in `places` of the repository, is not the same any more.
        """
        if not self.path.exists():
            return
        before = json.loads(self.path.read_text(encoding="utf-8"))
        command = ["git", "diff", "--quiet", before["commit"], "--", *places]
        if before["dirty"] or subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode:
            raise BenchError(f"{self.path} is of another version of {', '.join(places)}: begin anew, without --resume")
        again = {"started": self.data["started"], "commit": self.data["commit"], "dirty": self.data["dirty"]}
        before.setdefault("resumed", []).append(again)
        self._began -= before["seconds"]
        self.data = self.data | before | {"finished": False, "settings": self.data["settings"]}

    def has(self, row: Mapping[str, Any]) -> bool:
        """Is there a row in which all of this stands?"""
        return any(row.items() <= present.items() for present in self.data[self._rows])

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
