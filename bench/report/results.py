"""The files in bench/results, as values.

Owns their shape (written by the bench's runner) and looking figures up. May not live here: arithmetic on figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

SCHEMA: Final = 1
STALLS: Final = "router_stalls"
# Figures that follow from others: the first less the rest. A stall is not the router's where the backend sent late, or
# where the load's own process was late.
DERIVED: Final = {STALLS: ("stalls", "own_stalls", "backend_stalls")}
Number = int | float
Row = Mapping[str, str | int | float | bool | None]


class Contestant(msgspec.Struct, frozen=True):
    """A program under test, as it was run. `counted` says whose CPU and memory its figures are."""

    version: str = ""
    command: str = ""
    configs: dict[str, str] = {}
    counted: str = ""


class About(msgspec.Struct, frozen=True):
    """One file as it lies on the disk. Anything but the measurements may be absent."""

    bench: str
    schema: int
    started: str = ""
    seconds: float = 0.0
    machine: dict[str, object] = {}
    commit: str = ""
    dirty: bool = False
    settings: dict[str, object] = {}
    excluded: list[str] = []
    contestants: dict[str, Contestant] = {}
    skipped: dict[str, str] = {}
    finished: bool = True
    failed: list[dict[str, str | int | float | bool | None]] = []
    measurements: list[dict[str, str | int | float | bool | None]] = []
    soak: dict[str, object] | None = None
    resumed: list[dict[str, str | bool]] = []
    """Later sessions that went on with it: `started`, `commit`, `dirty`."""


@dataclass(frozen=True)
class Results:
    """One session of a bench. A measurement is found by its case, its contestant and its run."""

    about: About
    rows: Mapping[tuple[str, str, int], Row]

    def figure(self, case: str, contestant: str, name: str) -> dict[int, float]:
        """run → value of one figure; empty where nobody measured it."""
        first, *less = DERIVED.get(name, (name,))
        found: dict[int, float] = {}
        for (its_case, its_contestant, run), row in self.rows.items():
            if (its_case, its_contestant) == (case, contestant) and (value := number(row.get(first))) is not None:
                found[run] = value - sum(number(row.get(other)) or 0 for other in less)
        return dict(sorted(found.items()))

    def cases(self) -> list[str]:
        """Every case that was tried, in the order in which they first were."""
        tried = [*self.about.measurements, *self.about.failed]
        return list(dict.fromkeys(str(row.get("case")) for row in tried))

    def took_part(self, case: str) -> set[str]:
        """The contestants with at least one run of a case, be it a failed one."""
        tried = [*self.about.measurements, *self.about.failed]
        return {str(row.get("contestant")) for row in tried if row.get("case") == case}

    def runs(self, case: str, contestant: str) -> int:
        """How many measurements there are."""
        return sum((its, who) == (case, contestant) for its, who, _ in self.rows)

    def failed(self, case: str, contestant: str) -> list[Row]:
        """The runs that went so wrong that they are no measurement; `why` may say what happened."""
        return [row for row in self.about.failed if (row.get("case"), row.get("contestant")) == (case, contestant)]

    def errors(self, case: str, contestant: str) -> float:
        """How many requests failed, in all runs."""
        failed = (number(row.get("errors")) or 0 for row in self.failed(case, contestant))
        return sum(self.figure(case, contestant, "errors").values()) + sum(failed)

    def unit(self, case: str) -> str:
        """What the CPU of a case is divided by: `request`, `chunk`."""
        units = (row.get("unit") for (its, _, _), row in self.rows.items() if its == case)
        return next((str(unit) for unit in units if unit), "unit")


def number(value: object) -> float | None:
    """A figure, or None for what is none: text, true and false, null, not a number, infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        return None
    return float(value)


def parse(data: bytes) -> Results:
    """One file's bytes. ValueError says what is wrong: no JSON, another schema, one measurement told twice."""
    about = msgspec.json.decode(data, type=About)
    if about.schema != SCHEMA:
        raise ValueError(f"has schema {about.schema}, this program reads {SCHEMA}: measure again with `scripts/bench`")
    rows: dict[tuple[str, str, int], Row] = {}
    for row in about.measurements:
        case, contestant, run = row.get("case"), row.get("contestant"), row.get("run")
        if not (isinstance(case, str) and isinstance(contestant, str) and isinstance(run, int)):
            raise ValueError(f"has a measurement without a case, a contestant or a run: {case}, {contestant}, {run}")
        key = (case, contestant, run)
        if key in rows:
            raise ValueError(f"tells {key[0]} of {key[1]}, run {key[2]}, twice: each run is one measurement")
        rows[key] = row
    return Results(about, rows)


def load(folder: Path) -> dict[str, Results]:
    """Every results file of a folder by the name of its bench; empty where nothing has been measured."""
    found: dict[str, Results] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            results = parse(path.read_bytes())
        except ValueError as wrong:
            raise ValueError(f"{path.name} {wrong}") from wrong
        if results.about.bench in found:
            raise ValueError(f"{path.name} is a second file of the bench {results.about.bench}: keep one")
        found[results.about.bench] = results
    return found
