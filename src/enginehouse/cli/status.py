"""`enginehouse status`: what a running router knows of its services, as a table for people or JSON for programs.

Owns the command and the table. May not live here: what is told (the router's `/stats`).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from enginehouse.cli import ask
from enginehouse.cli.parser import Parser
from enginehouse.cli.terminal import wants_colour

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TIMEOUT: Final = 5.0
MODELS_SHOWN: Final = 3

EPILOG = """A table on a terminal, JSON otherwise or with --json (GET /stats of the router, with what it does not use).

Exit status: 0 if at least one service is healthy, 1 if none is or the router does not answer."""


def status(arguments: list[str]) -> int:
    """Services, models, health and requests of a running house."""
    parser = status_parser()
    given = parser.parse_args(arguments)
    try:
        listed = ask.get(given.router, "/services", TIMEOUT)
        stats = ask.get(given.router, "/stats", TIMEOUT)
        services: list[dict[str, Any]] = listed["services"]
        told: dict[str, Any] = {**stats, "services": services, "rejected": listed.get("rejected", [])}
    except (ask.NoAnswerError, TypeError, KeyError, AttributeError) as error:
        reason = error if isinstance(error, ask.NoAnswerError) else f"{given.router} answers, but not as a router does"
        print(f"{parser.prog}: {reason}\nIs the router running? Another address: --router URL.", file=sys.stderr)
        return 1
    if given.json or not sys.stdout.isatty():
        print(json.dumps(told, indent=2))
    else:
        _show(given.router, told)
    return 0 if any(service.get("healthy") for service in services) else 1


def status_parser() -> Parser:
    """Options of `status`."""
    parser = Parser("status", status.__doc__, EPILOG)
    parser.add_argument(
        "--router", metavar="URL", default="http://127.0.0.1:8080", help="the router to ask (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal too")
    return parser


def _show(url: str, stats: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    services = stats["services"]
    console = Console(highlight=False, markup=False, color_system="auto" if wants_colour(sys.stdout) else None)
    healthy = sum(bool(service.get("healthy")) for service in services)
    count = f"{healthy} of {len(services)} services healthy"
    console.print(Text.assemble((url, "bold"), "  ", count, "  ", _source(stats)))
    if services:
        console.print(table(services, stats.get("details") or {}))
    else:
        console.print(
            "No service yet: start an engine with `enginehouse babysitter`, or give the router static services."
        )
    _rejected(console, stats["rejected"])


def table(services: list[dict[str, Any]], details: dict[str, dict[str, Any]]) -> Table:
    """One row a service, sick ones with the reason."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("SERVICE", "HEALTH", "MODELS"):
        made.add_column(heading, overflow="fold")
    for heading in ("IN FLIGHT", "REQUESTS", "ERRORS", "FIRST BYTE", "WEIGHT"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("ADDRESS", overflow="fold")
    for service in services:
        detail = details.get(service["name"], {})
        made.add_row(
            Text(service["name"], "bold"),
            _health(service, detail),
            Text(_models(service.get("models") or [])),
            str(detail.get("in_flight", "")),
            str(service.get("request_count", "")),
            Text(str(service.get("error_count", "")), "red" if service.get("error_count") else ""),
            _time(service),
            str(service.get("weight", "")),
            Text(str(service.get("url", ""))),
        )
    return made


def _health(service: dict[str, Any], detail: dict[str, Any]) -> Any:
    from rich.text import Text

    state = str(detail.get("state") or ("up" if service.get("healthy") else "down"))
    if service.get("healthy"):
        now = "rests" if detail.get("rests_for") else "starts slowly" if detail.get("slow_start_for") else ""
        return Text(f"{state}, {now}" if now else state, "green")
    if state == "ejected" and detail.get("ejected_for"):
        state += f" for {detail['ejected_for']:.0f} s"
    reason = str(detail.get("reason") or "")
    return Text(f"{state}: {reason}" if reason else state, "red" if state == "down" else "yellow")


def _models(models: list[str]) -> str:
    more = f", +{len(models) - MODELS_SHOWN}" if len(models) > MODELS_SHOWN else ""
    return ", ".join(models[:MODELS_SHOWN]) + more or "none"


def _time(service: dict[str, Any]) -> str:
    """Mean time to the first byte."""
    seconds = service.get("response_time")
    if not isinstance(seconds, int | float) or not seconds:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _source(stats: dict[str, Any]) -> tuple[str, str]:
    registry = stats.get("registry_url")
    text = f"registry {registry}" if registry else "no registry"
    return (text, "") if stats.get("synced", True) else (f"{text}, not heard of yet", "yellow")


def _rejected(console: Console, rejected: list[Any]) -> None:
    """What a registry or a file offered and the router does not use."""
    from rich.text import Text

    for item in rejected:
        known = isinstance(item, dict) and {"name", "reason"} <= item.keys()
        console.print(Text("not used ", "yellow"), Text(f"{item['name']}: {item['reason']}" if known else str(item)))
