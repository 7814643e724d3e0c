"""The command: `scripts/bench proxy [options]`.

Owns its options. May not live here: what they do.
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.common import install
from bench.common.machine import ROOT
from bench.common.processes import BenchError, adopt_orphans
from bench.contestants.base import Contestant
from bench.proxy import soak
from bench.proxy.cases import BY_NAME, SOAK
from bench.proxy.contestants import ALL
from bench.proxy.results import Results
from bench.proxy.run import Runner, say
from bench.proxy.stage import Settings

#: Where the results lie that the README shows.
PUBLISHED = ROOT / "bench" / "results"
#: Without these there is nothing to compare with.
MANDATORY = ("enginehouse", "nginx", "vllm-router", "sglang-router")


def main(arguments: list[str]) -> int:
    """Run the bench; the exit status."""
    options = _parser().parse_args(arguments)
    everything = not (options.cases or options.contestants or options.quick)
    out = options.out or (PUBLISHED if everything else install.SCRATCH) / "proxy.json"
    names = options.cases or [*BY_NAME, SOAK]
    cases = [BY_NAME[name] for name in names if name != SOAK]
    wanted = options.contestants or list(ALL)
    settings = Settings(
        runs=options.runs or (2 if options.quick else 5),
        seconds=options.seconds or (2 if options.quick else 3),
        warm=1,
        seed=options.seed,
        router_core=options.router_core,
        load_core=options.load_core,
        soak_minutes=options.soak_minutes or (1.0 if options.quick else 10.0),
    )
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):  # both end everything that was started, even where one is ignored
        signal.signal(number, signal.default_int_handler)
    results = Results(
        out,
        {
            "runs": settings.runs,
            "seconds_per_run": settings.seconds,
            "warm_up_seconds": settings.warm,
            "seed": settings.seed,
            "pins": {"router": settings.router_core, "load": settings.load_core},
        },
    )
    try:
        with _alone(), TemporaryDirectory(dir=install.SCRATCH, prefix="run-") as scratch:
            install.debian("wrk")
            present = _install(wanted, results)
            Runner(settings, present, results, Path(scratch)).run(cases)
            if SOAK in names and "enginehouse" in present:
                say(f"soak: {settings.soak_minutes:g} minutes of enginehouse")
                results.data["soak"] = soak.run(settings, Path(scratch) / SOAK, say)
            results.data["finished"] = True
            results.write()
    except BenchError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: interrupted; what was measured is kept", file=sys.stderr)
        return 130
    print(f"results: {out}")
    return 0


@contextmanager
def _alone() -> Iterator[None]:
    """While no other bench of this repository runs: two would measure each other."""
    install.SCRATCH.mkdir(exist_ok=True)
    with (install.SCRATCH / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another bench to end …", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(wanted: list[str], results: Results) -> dict[str, Contestant]:
    """Those that can be had. Raises `BenchError` where a mandatory one cannot."""
    present = {}
    for name in wanted:
        try:
            ALL[name].install()
            present[name] = ALL[name]
        except BenchError as error:
            if name in MANDATORY:
                raise
            print(f"without {name}: {error}", file=sys.stderr)
            results.data["skipped"][name] = str(error)
    return present


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench proxy", description="CPU per unit of work beside the peers.")
    add = parser.add_argument
    every = [*BY_NAME, SOAK]
    add("--cases", type=_names(every), metavar="A,B", help=f"of {', '.join(every)} (default: all)")
    add("--contestants", type=_names(ALL), metavar="A,B", help=f"of {', '.join(ALL)} (default: all)")
    add("--runs", type=int, metavar="N", help="interleaved runs of each case (default: 5)")
    add("--seconds", type=int, metavar="N", help="load measured in each (default: 3)")
    add(
        "--quick",
        action="store_true",
        help="2 runs of 2 seconds, a soak of 1 minute: to see that all is well, not to publish",
    )
    add("--soak-minutes", type=float, metavar="N", help="length of the soak (default: 10)")
    add("--seed", type=int, default=1, metavar="N", help="of orders and texts (default: 1)")
    add("--router-core", type=int, default=1, metavar="N", help="core of whoever is measured (default: 1)")
    add("--load-core", type=int, default=0, metavar="N", help="core of load and backend (default: 0)")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="results as JSON (default: bench/results, and .bench for less than everything)",
    )
    return parser


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A type for argparse: names parted by commas, all of them known."""

    def parse(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name}; choose of {', '.join(known)}")
        return found

    return parse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
