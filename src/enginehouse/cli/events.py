"""`enginehouse events`: what happened to the fleet, in order, with reasons.

Owns the command and how a line looks. May not live here: what is told (the router's `/events`).
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, Final

from enginehouse.cli import ask
from enginehouse.cli.follow import Lost, NotThere, follow
from enginehouse.cli.parser import Parser
from enginehouse.cli.terminal import paint, printable, wants_colour

TIMEOUT: Final = 5.0
#: Columns of what happened, and of whom to.
KIND, NAME = 17, 24

EPILOG = """Joins and leaves, health that changed, ejections, drains, restarts of engines and workers: the last 10,000
since the router's control started. One line each on a terminal; one JSON object a line otherwise or with --json (GET
/events of the router).

  enginehouse events -f
  enginehouse events --service chat-server --lines 0

Exit status: 0, or 1 if the router does not answer."""

_COLOURS: Final = {
    "up": "green", "returned": "green", "resumed": "green", "found": "green", "source_back": "green",
    "down": "red", "left": "red", "missing": "yellow", "ejected": "red", "rejected": "red", "source_lost": "red",
    "draining": "yellow", "drained": "yellow", "withdrawn": "yellow", "engine_restarted": "yellow",
    "worker_restarted": "yellow",
}  # fmt: skip


def events(arguments: list[str]) -> int:
    """What happened to the fleet, in order, with reasons: joins, leaves, ejections, restarts."""
    parser = events_parser()
    given = parser.parse_args(arguments)
    show = _Lines(given.service, given.json or not sys.stdout.isatty())
    try:
        told = ask.get(given.router, "/events", TIMEOUT)
        found: list[dict[str, Any]] = told["events"]
        fitting = [event for event in found if show.wants(event)]
        for event in fitting if given.lines == 0 else fitting[-given.lines :]:
            show.line(event)
        if given.follow:
            _follow(given.router, int(told["next"]) - 1, show)
    except (ask.NoAnswerError, NotThere, TypeError, KeyError, ValueError) as error:
        known = isinstance(error, ask.NoAnswerError | NotThere)
        reason = error if known else f"{given.router} answers, but not as a router does"
        print(f"{parser.prog}: {reason}\nIs the router running? Another address: --router URL.", file=sys.stderr)
        return 1
    return 0


def events_parser() -> Parser:
    """Options of `events`."""
    parser = Parser("events", events.__doc__, EPILOG)
    parser.add_argument("-f", "--follow", action="store_true", help="go on, as things happen")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, default=50, help="the last N first; 0: all (default: %(default)s)"
    )
    parser.add_argument("--service", metavar="NAME", help="only what happened to this service")
    parser.add_argument(
        "--router", metavar="URL", default="http://127.0.0.1:8080", help="the router to ask (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal too")
    return parser


def _follow(router: str, last_id: int, show: _Lines) -> None:
    """Until somebody ends it. That the router is away is said once."""
    away = False
    for told in follow(router, "/events", last_id):
        if isinstance(told, Lost):
            if not away:
                print(f"{told}; trying again", file=sys.stderr, flush=True)
            away = True
            continue
        away = False
        if show.wants(told):
            show.line(told)


class _Lines:
    """Prints events, of one service if it is named."""

    def __init__(self, service: str | None, as_json: bool) -> None:
        self._service = service
        self._as_json = as_json
        self._colour = wants_colour(sys.stdout)
        self._today = datetime.now().astimezone().date()

    def wants(self, event: dict[str, Any]) -> bool:
        """Is it to be shown?"""
        return self._service is None or event["service"] in (self._service, f"{self._service}-server")

    def line(self, event: dict[str, Any]) -> None:
        """Print it."""
        print(json.dumps(event) if self._as_json else self._text(event), flush=True)

    def _text(self, event: dict[str, Any]) -> str:
        at = datetime.fromtimestamp(event["time"]).astimezone()
        when = f"{at:%H:%M:%S}" if at.date() == self._today else f"{at:%Y-%m-%d %H:%M:%S}"
        kind = str(event["kind"])
        shown = paint(f"{kind.replace('_', ' '):<{KIND}}", _COLOURS.get(kind, "bold"), self._colour)
        name, reason = printable(str(event["service"])), printable(str(event["reason"]))
        return f"{paint(when, 'dim', self._colour)}  {shown} {name:<{NAME}} {reason}".rstrip()
