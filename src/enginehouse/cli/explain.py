"""`enginehouse explain`: which service would get a request, at what cost, and what keeps the others from it.

Owns the command: where the request comes from, the table for people. May not live here: the explanation itself (the
router's `/explain`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enginehouse.cli import ask
from enginehouse.cli.parser import Parser, fail
from enginehouse.cli.terminal import wants_colour

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

TIMEOUT: Final = 15.0
#: Services of other models that are named; of more only the number is told.
NAMED: Final = 5
#: The path that a body is meant for, by the member that holds its prompt; the first that is there counts.
PATHS: Final = {"messages": "/v1/chat/completions", "prompt": "/v1/completions", "input": "/v1/responses"}

EPILOG = """The request is read from FILE, exactly as it would be sent; without FILE from the standard input (also -),
or it is made of --model and --prompt. It goes to no engine, and nothing remembers it.

  enginehouse explain request.json
  enginehouse explain --model chat --prompt "Who are you?"
  enginehouse explain --path /v1/messages --header "x-api-key: k" < request.json

A table on a terminal, JSON otherwise or with --json (POST /explain of the router).

Exit status: 0 if a service would get it or it would wait for one, 1 if it would be refused or nobody answers."""


def explain(arguments: list[str]) -> int:
    """Which service would get a request, why, and at what cost; what keeps the others from it. Nothing is sent."""
    parser = explain_parser()
    given = parser.parse_args(arguments)
    body = _body(parser, given)
    path = given.path or _path(body)
    if not path.startswith("/"):
        parser.error(f"--path wants a path such as {PATHS['messages']}, got {path!r}")
    headers = {"content-type": "application/json"} | dict(_header(parser, line) for line in given.header)
    try:
        told = ask.send(given.router, given.method, "/explain" + path, body, headers, TIMEOUT)
    except ask.NoAnswerError as error:
        print(f"{parser.prog}: {error}\nIs the router running? Another address: --router URL.", file=sys.stderr)
        return 1
    if not (isinstance(told, dict) and "result" in told and isinstance(told.get("services"), list)):
        print(f"{parser.prog}: {given.router} does not explain: {_refusal(told)}", file=sys.stderr)
        return 1
    if given.json or not sys.stdout.isatty():
        print(json.dumps(told, indent=2))
    else:
        _show(f"{given.method} {path}", told)
    return 1 if told["result"] == "refused" else 0


def explain_parser() -> Parser:
    """Options of `explain`."""
    parser = Parser("explain", explain.__doc__, EPILOG)
    parser.add_argument("file", metavar="[FILE]", nargs="?", help="the body of the request; - for the standard input")
    parser.add_argument("--model", metavar="NAME", help="in place of FILE: the model that is asked")
    parser.add_argument("--prompt", metavar="TEXT", help="in place of FILE: what it is asked")
    parser.add_argument("--path", metavar="PATH", help="where it would be sent (default: what fits the body)")
    parser.add_argument("--method", default="POST", type=str.upper, help="its method (default: %(default)s)")
    parser.add_argument(
        "--header", metavar="NAME:VALUE", action="append", default=[], help="a header of the request; repeatable"
    )
    parser.add_argument(
        "--router", metavar="URL", default="http://127.0.0.1:8080", help="the router to ask (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal too")
    return parser


def _body(parser: Parser, given: Any) -> bytes:
    if given.model is not None or given.prompt is not None:
        if given.file is not None:
            parser.error("give a FILE, or --model and --prompt, not both")
        named = {"model": given.model} if given.model is not None else {}
        message = {"role": "user", "content": given.prompt or ""}
        return json.dumps(named | {"messages": [message]}, ensure_ascii=False).encode()
    if given.method in ("GET", "HEAD", "DELETE", "OPTIONS") and given.file is None:
        return b""
    if given.file in (None, "-"):
        if given.file is None and sys.stdin.isatty():
            parser.error("give a FILE with the body of a request, or --model and --prompt")
        return sys.stdin.buffer.read()
    try:
        return Path(given.file).read_bytes()
    except OSError as error:
        fail(parser.prog, f"{given.file}: {error.strerror}")


def _path(body: bytes) -> str:
    """Where a body of this shape is sent."""
    try:
        members = json.loads(body)
    except ValueError:
        members = {}
    found = [path for name, path in PATHS.items() if isinstance(members, dict) and name in members]
    return [*found, PATHS["messages"]][0]


def _header(parser: Parser, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        parser.error(f"--header wants NAME:VALUE, got {line!r}")
    return name.strip().lower(), value.strip()


def _refusal(told: Any) -> str:
    error = told.get("error") if isinstance(told, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    return said or "it is older than this command, or no router"


def _show(request: str, told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, color_system="auto" if wants_colour(sys.stdout) else None)
    about = [request, _model(told)]
    if told.get("policy"):
        about.append(f"policy {told['policy']}")
    if told.get("prompt"):
        size = told["prompt"]["bytes"]
        about.append(f"prompt of {size / 1024:.1f} KiB" if size >= 1024 else f"prompt of {size} bytes")
    console.print(Text("  ".join(filter(None, about)), "bold"))
    console.print(_verdict(told))
    console.print(Text(str(told["explanation"])))
    _services(console, told["services"])


def _model(told: dict[str, Any]) -> str:
    model, asked = told.get("model"), told.get("asked_model")
    if not model:
        return ""
    return f"model {model}" if asked in (model, None) else f"model {model}, asked for as {asked}"


def _verdict(told: dict[str, Any]) -> Text:
    from rich.text import Text

    result = told["result"]
    if result == "service":
        return Text.assemble(("→ ", "green"), (told["service"], "bold green"), f"  ({told['reason']})")
    if result == "shared":
        return Text.assemble(("→ one of several", "green"), f"  ({told['reason']})")
    words = {"waits": "it would wait", "own": "no service is asked"}
    return Text(
        words.get(result, f"it would be refused: {told.get('status')} {told.get('code') or ''}".rstrip()), "yellow"
    )


def _services(console: Console, services: list[dict[str, Any]]) -> None:
    from rich.text import Text

    others = [service["name"] for service in services if service.get("excluded") == "other_model"]
    listed = [service for service in services if service.get("excluded") != "other_model"]
    if listed:
        console.print()
        console.print(table(listed))
    if others:
        names = ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "")
        console.print(Text(f"{len(others)} with other models: {names}", "dim"))


def table(services: list[dict[str, Any]]) -> Table:
    """One row a service: what it would cost there, or what keeps it from the request."""
    from rich.table import Table
    from rich.text import Text

    costs = any("cost_ms" in service for service in services)
    made = Table(box=None, pad_edge=False, header_style="dim")
    made.add_column("SERVICE", overflow="fold")
    for heading in ("GETS IT", *(("WARM", "TO COMPUTE", "QUEUED") if costs else ()), "IN FLIGHT"):
        made.add_column(heading, justify="right", no_wrap=True)
    if costs:
        made.add_column("COST", justify="right", no_wrap=True)
    made.add_column("", overflow="fold")
    for service in services:
        share, cap = service["share"], service.get("capacity")
        style = "green" if share else "" if service["candidate"] else "dim"
        cells = [f"{share:.0%}" if share else ""]
        if costs:
            cells += _work(service)
        cells.append(f"{service['in_flight']} of {cap}" if cap else str(service["in_flight"]))
        if costs:
            cells.append(f"{service['cost_ms']:.1f} ms" if "cost_ms" in service else "")
        note = Text(str(service.get("note") or ""), "yellow" if not service["candidate"] else "")
        made.add_row(Text(service["name"], f"bold {style}".rstrip()), *[Text(cell, style) for cell in cells], note)
    return made


def _work(service: dict[str, Any]) -> list[str]:
    """How much of the prompt is warm, and tokens to compute, its own and those queued before it."""
    if "cost_ms" not in service:
        return ["", "", ""]
    return [f"{service['matched_share']:.0%}", f"{service['uncached_tokens']} tok", f"{service['queued_tokens']} tok"]
