"""`enginehouse drain NAME`: a service gets no new requests and finishes those it has.

Owns the command: finding the service and its registry, the order, waiting for its end. May not live here: what a drain
is (`registry.leases`), and when a service is drained (the router's `/services`).
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

from enginehouse.cli import ask
from enginehouse.cli.parser import Parser, nearest
from enginehouse.core.config.base import ConfigError
from enginehouse.core.record import DRAINING, RUNNING

TIMEOUT: Final = 5.0
#: Seconds between two looks at the router while waiting.
LOOK: Final = 0.25
#: The router may be gone for so long while waiting: it may be restarted just then. Seconds.
PATIENCE: Final = 30.0
#: Where the token's file is named in the environment of a registry, or of a router.
VARIABLES: Final = ("ENGINEHOUSE_REGISTRY_TOKEN_FILE", "ENGINEHOUSE_ROUTER_REGISTRY_TOKEN_FILE")

EPILOG = """NAME as in `enginehouse status`; the name of an [[engine]] means the service NAME-server.

A drain is kept by the registry, over heartbeats and restarts of the router, for every router that follows it. It ends
with --undo, or when the engine is registered anew: an engine that was restarted takes requests again.

A rolling restart, engine by engine: `enginehouse drain NAME --wait`, restart the engine, wait until
`enginehouse status` shows it up again. Stopping a babysitter drains its engine by itself.

Exit status: 0 if the service drains (with --wait: if it has nothing left), 1 if not."""


class _Problem(Exception):
    """Why it cannot be done, and what to do instead."""


def drain(arguments: list[str]) -> int:
    """Send a service no new requests; those it has finish. Then it can be restarted without anybody noticing."""
    parser = drain_parser()
    given = parser.parse_args(arguments)
    try:
        service, registry = _find(given.router, given.name)
        name = service["name"]
        _order(given.registry or registry, name, RUNNING if given.undo else DRAINING, _token(given.token_file))
        if given.undo:
            print(f"{name} takes requests again")
        elif not given.wait:
            print(f"{name} drains; {service.get('in_flight', 'unknown')} in flight")
        else:
            _wait(given.router, name, given.timeout)
            print(f"{name} is drained: nothing is in flight. `{parser.prog} {given.name} --undo` brings it back.")
    except (_Problem, ask.NoAnswerError, ConfigError) as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 1
    return 0


def drain_parser() -> Parser:
    """Options of `drain`."""
    parser = Parser("drain", drain.__doc__, EPILOG)
    parser.add_argument("name", metavar="NAME", help="the service")
    parser.add_argument("--undo", action="store_true", help="send it requests again")
    parser.add_argument("--wait", action="store_true", help="return when it has nothing in flight any more")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=3600.0, help="longest wait (default: %(default)g s)"
    )
    parser.add_argument(
        "--router", metavar="URL", default="http://127.0.0.1:8080", help="a router that knows it (default: %(default)s)"
    )
    parser.add_argument("--registry", metavar="URL", help="the registry, where it is not the one the router names")
    parser.add_argument(
        "--token-file", metavar="FILE", help=f"file holding the registry's bearer token (default: ${VARIABLES[0]})"
    )
    return parser


def _find(router: str, asked: str) -> tuple[dict[str, Any], str]:
    """The service as the router knows it, and the URL of the registry."""
    stats = ask.get(router, "/stats", TIMEOUT)
    try:
        services = {str(service["name"]): service for service in stats["services"]}
        details, registry = stats["details"], stats["registry_url"]
    except (TypeError, KeyError):
        raise _Problem(f"{router} answers, but not as a router does; another address: --router URL") from None
    name = asked if asked in services else f"{asked}-server"
    if name not in services:
        known = ", ".join(sorted(services)) or "none"
        raise _Problem(f"the router has no service {asked}{nearest(asked, list(services))}\nIts services: {known}")
    if details.get(name, {}).get("source") == "static":
        raise _Problem(f'{name} is in the router\'s static file: give it "status": "{DRAINING}" there')
    return services[name], str(registry or "")


def _token(file: str | None) -> str:
    from enginehouse.app import read_token

    return read_token(file or next((os.environ[name] for name in VARIABLES if os.environ.get(name)), ""))


def _order(registry: str, name: str, status: str, token: str) -> None:
    base = registry.rstrip("/").removesuffix("/services")
    code, answer = ask.put(base, f"/services/{name}", {"status": status}, token, TIMEOUT)
    if code == 200:
        return
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else answer
    if code == 401:
        message = f"{message}\nGive the file that holds the registry's token: --token-file FILE"
    elif code == 409 and status == RUNNING:
        message = f"{name} is not being drained; what it says of itself stays"
    raise _Problem(f"the registry at {base} refused ({code}): {message}")


def _wait(router: str, name: str, timeout: float) -> None:
    """Until the service is drained; what is in flight is told whenever it is another number."""
    deadline, seen, told = time.monotonic() + timeout, time.monotonic(), -1
    while True:
        now, service = time.monotonic(), None
        try:
            service = next((each for each in ask.services(router, TIMEOUT) if each.get("name") == name), {})
            seen = now
        except ask.NoAnswerError:
            if now - seen > PATIENCE:
                raise
        if service == {}:
            return  # it was taken out altogether
        if service:
            if "drained" not in service:
                raise _Problem(f"{router} does not tell when a service is drained: it is older than this command")
            if service["drained"]:
                return
            if service["in_flight"] != told and sys.stdout.isatty():
                told = service["in_flight"]
                print(f"{name}: {told} in flight", flush=True)
        if now >= deadline:
            raise _Problem(f"{name} still has {service and service['in_flight']} in flight after {timeout:g} s")
        time.sleep(LOOK)
