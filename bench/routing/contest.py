"""The contest over HTTP: every contestant plays every match of its cases, in an order that differs from seed to seed.

Owns the order, waiting for a quiet machine before each match, the progress shown, and what is written of each match.
May not live here: one match (`match`), the cases (`cases`).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.common.machine import portable, shortened
from bench.common.plan import Progress, words
from bench.common.processes import BenchError
from bench.common.quiet import QUIET, until_quiet
from bench.common.results import Results
from bench.contestants.base import Contestant
from bench.routing import match
from bench.routing.cases import Case, seconds
from bench.routing.loads import LOADS


def run(
    cases: Sequence[Case], contestants: Mapping[str, Contestant], traces: Path, directory: Path, results: Results
) -> int:
    """Play all of it but for what `results` has already; how many matches failed."""
    planned = [(case, missing(case, contestants, results)) for case in cases]
    progress, failed, number = Progress(sum(seconds(case, len(matches)) for case, matches in planned)), 0, 0
    for case, matches in planned:
        if not matches:
            continue
        load = LOADS[case.load]
        if load.file and not (traces / load.file).exists():
            results.data["skipped"][case.name] = f"there is no {load.file} in the folder of traces"
            print(f"{case.name}: skipped, there is no {load.file} in {traces}", file=sys.stderr)
            continue
        print(f"{case.name}: {load.title}, ×{case.rate:g} (about {words(progress.left)} left)", flush=True)
        began = time.monotonic()
        for seed, position, name in matches:
            number += 1
            row = {"case": case.name, "contestant": name, "run": seed, "position": position}
            row |= {"load": case.load, "rate": case.rate, "workers": case.workers}
            if (share := until_quiet()) >= QUIET:
                print(f"  others use {share:.0%} of the machine: what follows is not to be believed", flush=True)
            try:
                played = match.play(contestants[name], case, seed, traces, directory / f"{number:04}")
            except BenchError as error:
                failed += 1
                results.data["failed"].append({**row, "why": portable(str(error))[-500:]})
                results.write()
                print(f"  {name}, seed {seed}: failed: {error}", flush=True)
                continue
            _describe(results, contestants[name], case, played)
            results.add({**row, **played.figures})
            print(f"  {seed}.{position} {name:20} {told(played.figures)}", flush=True)
        progress.done(seconds(case, len(matches)), time.monotonic() - began)
    return failed


def missing(case: Case, contestants: Mapping[str, Contestant], results: Results) -> list[tuple[int, int, str]]:
    """The matches of a case that are still to be played: (seed, its place in the order of that seed, contestant)."""
    matches: list[tuple[int, int, str]] = []
    for seed in case.seeds:
        away = () if seed == case.seeds[0] else case.once
        order = [name for name in case.contestants if name in contestants and name not in away]
        random.Random(f"{case.name} {seed}").shuffle(order)
        for position, name in enumerate(order, 1):
            if not results.has({"case": case.name, "contestant": name, "run": seed}):
                matches.append((seed, position, name))
    return matches


def told(figures: Mapping[str, object]) -> str:
    """A line about a match."""

    def number(name: str) -> float:
        value = figures.get(name)
        return float(value) if isinstance(value, int | float) else float("nan")

    return (
        f"first token {number('ttft_mean'):7.3f} s, p90 {number('ttft_p90'):7.3f} s, hit {number('hit'):.2f},"
        f" good {number('good'):.3f}, router {number('router_us'):5.0f} µs, busy {number('busy'):.2f},"
        f" late {number('client_late_ms'):.2f} ms"
        + (f"  {figures['errors']} ERRORS: {figures.get('what')}" if figures["errors"] else "")
        + (f"  VOID: {figures['void']}" if "void" in figures else "")
    )


def _describe(results: Results, contestant: Contestant, case: Case, played: match.Played) -> None:
    """Who took part, with what: once for each number of workers."""
    known = results.data["contestants"]
    entry = known.setdefault(
        contestant.name,
        {
            "version": contestant.version(),
            "command": portable(" ".join(played.command), played.ports),
            "counted": contestant.counted,
            "routing": contestant.routing,
            "configs": {},
        },
    )
    for file, text in played.configs.items():
        name = f"{file} ({case.workers} workers)" if case.workers > 1 else file
        entry["configs"].setdefault(name, shortened(portable(text, played.ports)))
