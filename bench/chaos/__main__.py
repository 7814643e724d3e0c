"""The command: `scripts/bench chaos [options]`.

Owns its options. May not live here: what they do.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.chaos import real
from bench.chaos.run import NAMES, REAL_NAMES, Runner
from bench.chaos.stage import BABYSITTER, PACE, ROUTER
from bench.common import install
from bench.common.machine import ROOT
from bench.common.processes import BenchError, adopt_orphans
from bench.common.results import Results

#: Where the results lie that the documentation shows.
PUBLISHED = ROOT / "bench" / "results"


def main(arguments: list[str]) -> int:
    """Run the lab; 0 everything held, 1 something was lost, wrong or not as it has to be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = REAL_NAMES if options.real else NAMES
    names = options.cases or list(known)
    if strangers := [each for each in names if each not in known]:
        parser.error(f"there is no {strangers[0]}; choose of {', '.join(known)}")
    bench = "chaos-real" if options.real else "chaos"
    out = options.out or (install.SCRATCH if options.cases else PUBLISHED) / f"{bench}.json"
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):  # both end everything that was started, even where one is ignored
        signal.signal(number, signal.default_int_handler)
    settings: dict[str, object] = {"seconds_per_fault": options.seconds, "router": ROUTER, "babysitter": BABYSITTER}
    if options.real:
        settings["router"] = {**ROUTER, **real.PATIENT}
    else:
        settings["simulated engine"] = PACE
    results = Results(out, bench, settings, ("src", "bench/chaos", "bench/common"))
    install.SCRATCH.mkdir(exist_ok=True)
    try:
        with TemporaryDirectory(dir=install.SCRATCH, prefix="chaos-") as scratch:
            if options.real:
                real.require()
            runner = Runner(results, Path(scratch), options.seconds, options.real)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                held = loop.run(runner.run(names))
    except BenchError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; the rows so far are kept", file=sys.stderr)
        return 130
    print(f"results: {out}" + "; `.venv/bin/python -m bench.report` renders them" * (out.parent == PUBLISHED))
    return 0 if held else 1


def _parser() -> argparse.ArgumentParser:
    description = "Everything that can go wrong goes wrong under steady load, and every request is accounted for."
    parser = argparse.ArgumentParser(prog="scripts/bench chaos", description=description)
    add = parser.add_argument
    add("--cases", type=_names, metavar="A,B", help=f"of {', '.join(NAMES)} (default: all)")
    add("--real", action="store_true", help=f"llama.cpp instead of simulated engines: {', '.join(REAL_NAMES)}")
    add("--seconds", type=float, default=5.0, metavar="N", help="how long each fault lasts (default: 5)")
    add("--out", type=Path, metavar="FILE", help="results as JSON (default: bench/results, and .bench for some rows)")
    return parser


def _names(text: str) -> list[str]:
    """Names parted by commas."""
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
