"""The command: `scripts/bench micro [options] [NAME...]`.

Owns its options. May not live here: what they do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.micro import decisions, passage, show
from bench.micro.measure import Case, Figure, measure

CASES: list[Case] = [*decisions.CASES, *passage.CASES]


def main(arguments: list[str]) -> int:
    """Run the bench; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    wanted = [case for case in CASES if not options.names or any(name in case.name for name in options.names)]
    if not wanted:
        parser.error(f"no case has {' or '.join(options.names)} in its name; there are: {names()}")
    try:
        before = show.earlier(options.compare) if options.compare else None
    except ValueError as error:
        parser.error(str(error))
    figures: dict[str, Figure] = {}
    for done, found in measure(wanted, options.rounds, options.seconds):
        figures = dict(found)
        if sys.stderr.isatty():
            print(f"\rround {done} of {options.rounds}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if options.json:
        print(show.as_json(figures, {"rounds": options.rounds, "seconds_per_round": options.seconds}))
    else:
        print("compiled" if show.is_compiled() else "pure Python")
        print(show.table(figures, before))
    return 0


def names() -> str:
    """The cases, one a line."""
    return "".join(f"\n  {case.name}" for case in CASES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench micro",
        description="CPU of each part of a request's way, without sockets. Pin it for steadier figures: "
        "`taskset -c 1 scripts/bench micro request`.",
    )
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="only cases whose name has one of these in it, e.g. peek or 'chunk: one'",
    )
    add("--rounds", type=int, default=7, metavar="N", help="rounds over all cases; the median counts (default: 7)")
    add("--seconds", type=float, default=0.1, metavar="S", help="of each case in each round (default: 0.1)")
    add("--json", action="store_true", help="print everything as JSON, to be kept for --compare")
    add("--compare", type=Path, metavar="FILE", help="show ratios to an earlier run's JSON (below 1 is faster now)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
