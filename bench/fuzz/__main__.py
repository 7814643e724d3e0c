"""The command: `scripts/bench fuzz [options]`.

Owns its options, the order of a run with what follows it, and the file of results. May not live here: what is done
(`run`), whose fault a finding is (`culprit`), how results are told (`bench.report`).
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import itertools
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from bench.common.machine import ROOT, commit, machine
from bench.common.processes import BenchError, adopt_orphans
from bench.fuzz.case import as_json
from bench.fuzz.corpus import ANSWERS, REQUESTS, WORDS
from bench.fuzz.culprit import find
from bench.fuzz.run import ENGINES, figures, fuzz, stage

OUT = ROOT / "bench" / "results" / "fuzz.json"
#: Findings that are made small, and the time for each. Seconds.
_SMALL, _SMALL_TIME = 5, 60.0


def main(arguments: list[str]) -> int:
    """0: nothing was found, 1: something was, 2: it could not run."""
    options = _parser().parse_args(arguments)
    adopt_orphans()
    try:
        return uvloop.run(_run(options))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


async def _run(options: argparse.Namespace) -> int:
    numbers = options.only or itertools.count(options.first)
    began = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with TemporaryDirectory(prefix="fuzz-") as scratch:
        async with stage(Path(scratch) / "run", options.workers) as at:
            outcome = await fuzz(options.seed, numbers, options.minutes * 60, options.parallel, at, _say)
        told: dict[str, Any] = {**_about(options, began), **figures(outcome)}
        told["findings"] = [{"kind": one.kind, "text": one.text} for one in outcome.findings]
        for number, finding in enumerate(outcome.findings[:_SMALL]):
            print(f"\nFOUND: {finding.kind}: {finding.text}")
            case = await find(finding, options.seed, Path(scratch) / f"small-{number}", _SMALL_TIME)
            if case is not None:
                told["findings"][number]["case"] = as_json(case)
                print(json.dumps(as_json(case), indent=1))
    out = options.out or (OUT if not (options.only or options.first) and options.minutes >= 10 else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        _say(f"results: {out}; `python -m bench.report` renders them")
    print(f"{outcome.cases:,} cases in {outcome.seconds:.0f} s, {len(outcome.findings) or 'no'} findings")
    return 1 if outcome.findings else 0


def _about(options: argparse.Namespace, began: str) -> dict[str, Any]:
    digest = hashlib.sha256(repr((REQUESTS, ANSWERS, WORDS)).encode()).hexdigest()
    version, dirty = commit("src", "bench/fuzz")
    return {
        "bench": "fuzz",
        "schema": 1,
        "started": began,
        "machine": machine(),
        "commit": version,
        "dirty": dirty,
        "settings": {
            "seed": options.seed,
            "minutes": options.minutes,
            "parallel": options.parallel,
            "workers": options.workers,
            "engines": ENGINES,
        },
        "corpus": {
            "requests": {name: len(data) for name, data in REQUESTS.items()},
            "answers": {name: len(data) for name, data in ANSWERS.items()},
            "words": len(WORDS),
            "digest": digest,
        },
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    """Numbers parted by commas."""
    return [int(one) for one in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench fuzz",
        description="Broken requests and broken answers through a real router: nothing may crash, hang, be wrong, or "
        "be left behind. The exit status is 1 if something was found.",
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, metavar="N", help="how long (default: 10)")
    add("--seed", type=int, default=1, metavar="N", help="what the cases are made of (default: 1)")
    add("--first", type=int, default=0, metavar="N", help="number of the first case (default: 0)")
    add("--only", type=_numbers, metavar="A,B", help="play these cases only")
    add("--parallel", type=int, default=200, metavar="N", help="cases at once (default: 200)")
    add("--workers", type=int, default=2, metavar="N", help="of the router (default: 2)")
    add("--out", type=Path, metavar="FILE", help="results as JSON (default: bench/results, for 10 minutes or more)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
