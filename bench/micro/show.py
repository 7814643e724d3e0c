"""The figures for people and for programs.

Owns the table and the JSON (`schema` 1), and reading an earlier run's. May not live here: measuring.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.common.machine import machine
from bench.micro.measure import Figure
from enginehouse.data import driver

SCHEMA = 1


def is_compiled() -> bool:
    """Whether the package that is measured was compiled."""
    return not str(driver.__file__).endswith(".py")


def as_json(figures: Mapping[str, Figure], settings: Mapping[str, object]) -> str:
    """Everything, rounds included."""
    cases = {
        name: {
            "ns": round(figure.median, 1),
            "spread": round(figure.spread, 4),
            "rounds": [round(value, 1) for value in figure.rounds],
            "units_per_round": figure.units,
        }
        for name, figure in figures.items()
    }
    head: dict[str, Any] = {"bench": "micro", "schema": SCHEMA, "compiled": is_compiled(), "machine": machine()}
    return json.dumps({**head, "settings": dict(settings), "cases": cases}, indent=1, ensure_ascii=False)


def earlier(file: Path) -> dict[str, float]:
    """Nanoseconds by case of a run that was kept with `--json`. Raises `ValueError` for any other file."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if (data["bench"], data["schema"]) != ("micro", SCHEMA):
            raise ValueError(f"{file} is no result of this bench")
        return {name: float(case["ns"]) for name, case in data["cases"].items()}
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a result of this bench: {error}") from None


def table(figures: Mapping[str, Figure], before: Mapping[str, float] | None = None) -> str:
    """A line for each case: CPU for one unit, spread over the rounds, and the ratio to `before`."""
    width = max(map(len, figures), default=0)
    lines = [f"{'':{width}}  {'CPU per unit':>12}  {'spread':>6}" + ("  ratio" if before is not None else "")]
    for name, figure in figures.items():
        line = f"{name:{width}}  {_time(figure.median):>12}  {'±' + format(figure.spread, '.0%'):>6}"
        if before is not None:
            line += f"  {figure.median / before[name]:5.2f}" if name in before else "      –"
        lines.append(line)
    return "\n".join(lines)


def _time(ns: float) -> str:
    """Three digits."""
    if ns < 1e3:
        return f"{ns:.0f} ns"
    if ns < 1e6:
        return f"{ns / 1e3:.3g} µs"
    return f"{ns / 1e6:.3g} ms"
