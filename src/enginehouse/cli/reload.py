"""`enginehouse reload`: has a running router read its settings again and replace its processes; no request is lost.

Owns the command. May not live here: the reload itself (`supervisor.reload`).
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final
from urllib.parse import urlsplit

from enginehouse.cli.parser import Parser
from enginehouse.supervisor import door

#: Seconds of silence after which the router is given up on: more than any step of a reload may take.
TIMEOUT: Final = 600.0

EPILOG = """For a router on this machine that was started by this user (or by anybody, for root), with
`enginehouse router` or `enginehouse up`. Its [router] settings are read again from where they came: file, environment
and flags as they were when it was started. Control and the workers are replaced one after the other. Requests that run
finish on the worker they are with; connections that carry none are told to come again, and closed after 15 s.

Whatever is wrong with the settings, the router goes on with those it has. SIGHUP to the router does the same, what is
told then is in its log. Engines and the registry are left alone; host, port and number of workers need a restart.

Exit status: 0 if everything was replaced, 1 if not or if there is no such router."""


def reload(arguments: list[str]) -> int:
    """Have a running router read its settings again and replace its processes one by one; no request is lost."""
    parser = reload_parser()
    host, port = _place(parser, parser.parse_args(arguments).router)
    if not _is_here(host):
        print(f"{parser.prog}: {host} is another machine: run this there", file=sys.stderr)
        return 1
    for place in door.doors(port):
        try:
            for told in door.ask(place, TIMEOUT):
                if "done" in told:
                    return 0 if told["done"] else 1
                print(told["said"], flush=True)
        except ConnectionRefusedError:
            continue  # left over from a router that was killed
        except OSError as error:
            reason = "it is silent" if isinstance(error, TimeoutError) else error.strerror
            print(f"{parser.prog}: the router on port {port} did not finish: {reason}; see its log", file=sys.stderr)
            return 1
        print(f"{parser.prog}: the router on port {port} ended before it had finished; see its log", file=sys.stderr)
        return 1
    print(
        f"{parser.prog}: no router on port {port} was started on this machine by this user\n"
        "Another port: --router URL. As another user, or in a container: send SIGHUP to the router's first process.",
        file=sys.stderr,
    )
    return 1


def reload_parser() -> Parser:
    """Options of `reload`."""
    parser = Parser("reload", reload.__doc__, EPILOG)
    parser.add_argument(
        "--router",
        metavar="URL",
        default="http://127.0.0.1:8080",
        help="the router, by its port (default: %(default)s)",
    )
    return parser


def _place(parser: Parser, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parser.error(f"--router: {url!r} is not a URL")


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's: others cannot be listened on."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, _, _, address in found:
        with socket.socket(family, kind) as probe, contextlib.suppress(OSError):
            probe.bind(address)
            return True
    return False
