"""The command: `scripts/bench routing [options]`.

Owns its options. May not live here: what they do.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.common import install
from bench.common.machine import ROOT
from bench.common.processes import BenchError, adopt_orphans
from bench.common.results import Results
from bench.contestants.base import Contestant
from bench.routing import contest, sweeps
from bench.routing.cases import Case, quick, whole
from bench.routing.contestants import ALL, OURS
from bench.routing.engines import STREAM_INTERVAL
from bench.routing.loads import LOADS, REQUESTS, SOURCES
from bench.routing.match import ENGINES

#: Where the results lie that the documentation shows.
PUBLISHED = ROOT / "bench" / "results"
_PLACES = ("src", "bench/common", "bench/contestants", "bench/routing")


def main(arguments: list[str]) -> int:
    """Run the contest; 0 every match was played."""
    parser = _parser()
    options = parser.parse_args(arguments)
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):  # both end everything that was started, even where one is ignored
        signal.signal(number, signal.default_int_handler)
    install.SCRATCH.mkdir(exist_ok=True)
    if options.simulated:
        return _simulated(options)
    cases = _chosen(quick() if options.quick else whole(), options.cases, options.contestants)
    if not cases:
        parser.error(f"no case is left; there are: {', '.join(case.name for case in whole())}")
    published = not (options.cases or options.contestants or options.quick)
    out = options.out or (PUBLISHED if published else install.SCRATCH) / "routing.json"
    results = Results(out, "routing", _settings(options.traces), _PLACES, "measurements")
    results.data |= {"contestants": {}, "skipped": {}, "failed": []}
    try:
        if options.resume:
            results.resume("src", "bench/contestants")
        with TemporaryDirectory(dir=install.SCRATCH, prefix="routing-") as scratch:
            present = _install({name for case in cases for name in case.contestants}, results)
            failed = contest.run(cases, present, options.traces, Path(scratch), results)
        results.finish()
    except BenchError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; the matches so far are kept", file=sys.stderr)
        return 130
    print(f"results: {out}" + "; `.venv/bin/python -m bench.report` renders them" * (out.parent == PUBLISHED))
    return 1 if failed else 0


def _simulated(options: argparse.Namespace) -> int:
    """The discrete-event mode; 0."""
    found = sweeps.quick() if options.quick else sweeps.whole()
    chosen = [sweep for sweep in found if not options.cases or sweep.name in options.cases]
    published = not (options.cases or options.quick)
    out = options.out or (PUBLISHED if published else install.SCRATCH) / "routing-simulated.json"
    settings = {"engine model": "h100-8b", "engines": ENGINES}
    results = Results(out, "routing-simulated", settings, _PLACES, "measurements")
    results.data["skipped"] = {}
    sweeps.run(chosen, options.traces, results)
    results.finish()
    print(f"results: {out}")
    return 0


def _settings(traces: Path) -> dict[str, object]:
    return {
        "engines": ENGINES,
        "engine model": "h100-8b",
        "requests": REQUESTS,
        "tokens in an event": STREAM_INTERVAL,
        "time scales": {name: load.time_scale for name, load in LOADS.items()},
        "traces": {name: source for name, source in SOURCES.items() if (traces / name).exists()},
    }


def _chosen(cases: list[Case], names: list[str], contestants: list[str]) -> list[Case]:
    """Of the cases those asked for, with those contestants of them."""
    kept = [case for case in cases if not names or case.name in names]
    if contestants:
        kept = [case._replace(contestants=tuple(n for n in case.contestants if n in contestants)) for case in kept]
    return [case for case in kept if case.contestants]


def _install(wanted: set[str], results: Results) -> dict[str, Contestant]:
    """Those that can be had. Raises `BenchError` where ours cannot."""
    present = {}
    for name in [name for name in ALL if name in wanted]:
        try:
            ALL[name].install()
            present[name] = ALL[name]
        except BenchError as error:
            if name in OURS:
                raise
            print(f"without {name}: {error}", file=sys.stderr)
            results.data["skipped"][name] = str(error)
    return present


def _parser() -> argparse.ArgumentParser:
    description = (
        "Routers in front of the same eight simulated engines: who finds the prefixes, who keeps the queues short."
    )
    parser = argparse.ArgumentParser(prog="scripts/bench routing", description=description)
    add = parser.add_argument
    add("--traces", type=Path, default=ROOT / "traces", metavar="DIR", help="folder of the published traces (see docs)")
    add("--quick", action="store_true", help="the main table only, with few seeds: about ten minutes")
    add("--simulated", action="store_true", help="on a virtual clock: whole traces, more engines, no other binaries")
    add("--cases", type=_names, default=[], metavar="A,B", help="only these")
    add("--contestants", type=_names, default=[], metavar="A,B", help=f"of {', '.join(ALL)} (default: all)")
    add("--resume", action="store_true", help="go on with a contest that was interrupted: play what is missing")
    add("--out", type=Path, metavar="FILE", help="results as JSON (default: bench/results, and .bench for some cases)")
    return parser


def _names(text: str) -> list[str]:
    """Names parted by commas."""
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
