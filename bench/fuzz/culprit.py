"""Which case it was, and what of it matters: the suspects are played again, alone, and the guilty one is shrunk.

Owns the search on a router of its own. May not live here: how cases are made smaller (`minimise`).
"""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Final

from bench.fuzz.case import Case, make, with_number
from bench.fuzz.minimise import minimise
from bench.fuzz.run import Finding, Stage, stage

#: Suspects that are looked at.
_MAX_SUSPECTS: Final = 400
#: Kinds whose smaller cases would take too long, each of them up to the deadline.
_SLOW: Final = frozenset(("connection hung",))


async def find(finding: Finding, seed: int, directory: Path, seconds: float) -> Case | None:
    """The smallest case found that shows the same; None where it shows with none of them alone."""
    if finding.kind == "something is left behind":
        return None
    fresh = itertools.count(90_000_000)
    async with stage(directory, 1) as at:

        async def shows(case: Case) -> bool:
            return await _shows(at, with_number(case, next(fresh)), finding.kind)

        for number in finding.suspects[:_MAX_SUSPECTS]:
            case = make(seed, number)
            if await shows(case):
                return case if finding.kind in _SLOW else await minimise(case, shows, seconds)
    return None


async def _shows(at: Stage, case: Case, kind: str) -> bool:
    at.forget()
    with contextlib.suppress(OSError):
        await at.play(case)
    at.look()
    return any(one.kind == kind for one in at.outcome.findings)
