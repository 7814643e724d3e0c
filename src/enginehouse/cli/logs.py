"""`enginehouse logs NAME`: what an engine prints, as its babysitter keeps it.

Owns the command: finding the babysitter, the lines over HTTP with the token or, on the same machine, out of the file.
May not live here: keeping lines (`babysitter.logs`).
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from enginehouse.cli import ask
from enginehouse.cli.parser import Parser, nearest
from enginehouse.cli.terminal import printable
from enginehouse.core.config.base import ConfigError
from enginehouse.core.proof import logs_of, proof

TIMEOUT: Final = 5.0
#: Seconds between two looks while following.
LOOK: Final = 0.5
#: The babysitter may be away for so long while following: it may be restarted just then. Seconds.
PATIENCE: Final = 60.0
#: Lines that a babysitter gives at once.
MOST: Final = 1000
#: Where the token's file is named in the environment of a babysitter, or of a router.
VARIABLES: Final = ("ENGINEHOUSE_BABYSITTER_ADMIN_TOKEN_FILE", "ENGINEHOUSE_ROUTER_ADMIN_TOKEN_FILE")

EPILOG = """NAME as in `enginehouse status`; the name of an [[engine]] means the service NAME-server.

Engines print prompts, so their output is not for everybody. On the machine of the engine it is read from the
babysitter's file, which its owner may read; elsewhere with the babysitter's token (admin_token_file): --token-file.

Exit status: 0, or 1 if the output cannot be read."""


class _Problem(Exception):
    """Why it cannot be done, and what to do instead."""


def logs(arguments: list[str]) -> int:
    """What an engine prints: its last lines, and with -f what comes."""
    parser = logs_parser()
    given = parser.parse_args(arguments)
    try:
        service = _service(given.router, given.name)
        url, token = str(service["babysitter_url"]), _token(given.token_file)
        if token:
            what = logs_of(str(service["name"]), int(service["port"]))
            _over_http(url, token, what, given.lines, given.follow)
        else:
            _from_file(_file(url), given.lines, given.follow)
    except (_Problem, ask.NoAnswerError, ConfigError) as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 1
    return 0


def logs_parser() -> Parser:
    """Options of `logs`."""
    parser = Parser("logs", logs.__doc__, EPILOG)
    parser.add_argument("name", metavar="NAME", help="the service")
    parser.add_argument("-f", "--follow", action="store_true", help="go on, as lines come")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, default=100, help="the last N first (default: %(default)s)"
    )
    parser.add_argument(
        "--router", metavar="URL", default="http://127.0.0.1:8080", help="a router that knows it (default: %(default)s)"
    )
    parser.add_argument("--token-file", metavar="FILE", help=f"file holding the token (default: ${VARIABLES[0]})")
    return parser


def _service(router: str, asked: str) -> dict[str, Any]:
    """The service as the router knows it, if it has a babysitter."""
    services = {str(service.get("name")): service for service in ask.services(router, TIMEOUT)}
    name = asked if asked in services else f"{asked}-server"
    if name not in services:
        known = ", ".join(sorted(services)) or "none"
        raise _Problem(
            f"the router has no service {asked}{nearest(asked, list(services))}\nIts services: {known}. One whose"
            " engine does not start is not among them: its babysitter says why, and its log_dir has what it prints."
        )
    if not services[name].get("babysitter_url"):
        raise _Problem(f"{name} has no babysitter, so nobody here keeps what it prints")
    return services[name]


def _token(file: str | None) -> str:
    from enginehouse.app import read_token

    return read_token(file or next((os.environ[name] for name in VARIABLES if os.environ.get(name)), ""))


# over HTTP


def _over_http(url: str, token: str, what: str, lines: int, follow: bool) -> None:
    number, seen = -1, time.monotonic()
    limit = max(0, min(lines, MOST))
    while True:
        try:
            told = _ask(url, f"/logs?since={number}&limit={limit}", proof(token, what, time.time()))
            seen = time.monotonic()
        except ask.NoAnswerError:
            if not follow or time.monotonic() - seen > PATIENCE:
                raise
            time.sleep(LOOK)
            continue
        for line in told["lines"]:
            print(printable(str(line)))
        sys.stdout.flush()
        number, limit = told["next"], MOST
        if not follow:
            return
        if len(told["lines"]) < MOST:
            time.sleep(LOOK)


def _ask(url: str, path: str, authorization: str = "") -> dict[str, Any]:
    headers = {"authorization": authorization} if authorization else {}
    told = ask.send(url, "GET", path, b"", headers, TIMEOUT)
    if isinstance(told, dict) and isinstance(told.get("error"), dict):
        raise _Problem(f"the babysitter at {url} refuses: {told['error'].get('message')}")
    if not isinstance(told, dict):
        raise _Problem(f"{url} answers, but not as a babysitter does")
    return told


# out of the file


def _file(url: str) -> Path:
    """The babysitter's own file, if it is on this machine and may be read."""
    if urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        raise _Problem(f"its babysitter is at {url}: give the file with its token, --token-file FILE")
    try:
        path = Path(str(_ask(url, "/logs/file")["file"]))
        with path.open("rb"):
            return path
    except OSError as error:
        hint = "run this as the babysitter's user, or give the file with its token: --token-file FILE"
        raise _Problem(f"{error.filename}: {error.strerror}; {hint}") from None
    except KeyError:
        raise _Problem(f"{url} answers, but not as a babysitter does") from None


def _from_file(path: Path, lines: int, follow: bool) -> None:
    """The end of the file; then what is written to it, and to those that take its place."""
    file = path.open("rb")
    try:
        for line in deque(file, maxlen=max(0, lines)):
            _put(line)
        half = b""
        while follow:
            sys.stdout.flush()
            while piece := half + file.readline():
                if not piece.endswith(b"\n"):
                    half = piece
                    break
                half = b""
                _put(piece)
            if _replaced(path, file.fileno()):
                file.close()
                file = path.open("rb")
            else:
                time.sleep(LOOK)
    except OSError as error:
        raise _Problem(f"{path}: {error.strerror}") from None
    finally:
        file.close()


def _put(line: bytes) -> None:
    print(printable(line.decode(errors="replace").rstrip("\r\n")))


def _replaced(path: Path, descriptor: int) -> bool:
    """Was the file rotated away? Between two names there may be none for a moment."""
    try:
        there, ours = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
