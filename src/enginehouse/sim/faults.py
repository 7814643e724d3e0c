"""What can go wrong with a simulated engine, as data.

Owns the kinds of faults, their spelling (`kind:field=value,…` or an object with the same keys) and which of them meet a
request. May not live here: how a fault is acted out (see `faulty`, `conn` and `server`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from enginehouse.core.config.base import Config, ConfigError, from_mapping, option

Kind = Literal[
    "refuse", "silent", "stall_head", "stall", "reset", "close", "half_close", "end", "truncated_chunk", "error_event",
    "status", "early_status", "garbage", "wrong_length", "gzip", "until_close", "trailers", "informational",
    "slow_read", "huge_head", "split",
]  # fmt: skip

MEANING: dict[Kind, str] = {
    "refuse": "the port refuses connections for `seconds` (0: for good)",
    "silent": "the request is read and not answered until `seconds` have passed (0: ever)",
    "stall_head": "half of the head, then nothing until `seconds` have passed (0: ever)",
    "stall": "`after` chunks, then nothing until `seconds` have passed (0: ever)",
    "reset": "a TCP reset after `after` chunks; 0: after the head, -1: before it",
    "close": "the connection ends after `after` chunks, the framing does not; 0: after the head, -1: before it",
    "half_close": "after `after` chunks (0: after the head, -1: before it) it sends no more, and goes on reading",
    "end": "the answer ends cleanly after `after` chunks, so that it looks complete",
    "truncated_chunk": "after `after` chunks one is announced, half of it sent and the connection closed",
    "error_event": "after `after` chunks the stream carries an error and ends",
    "status": "answers `code` at once; `seconds` go into Retry-After",
    "early_status": "answers `code` before the body is read and closes",
    "garbage": "`data` is sent instead of an answer, and the connection closed",
    "wrong_length": "Content-Length is wrong by `by`: too long ends early, too short leaves surplus bytes behind",
    "gzip": "the answer is encoded with gzip",
    "until_close": "the answer has no length and ends with the connection",
    "trailers": "the answer is chunked and has trailers that look like the router's own headers",
    "informational": "an answer `code` (1xx) comes before the real one",
    "slow_read": "one piece of the body is read every `seconds` (0: none ever)",
    "huge_head": "the head carries `bytes` of header",
    "split": "the answer is written in pieces of `bytes`, one every `seconds`",
}

GARBAGE = "\x16\x03\x01 this is not HTTP \xff\xfe\r\n\r\n"
PROBES = frozenset(
    {"/health", "/v1/models", "/models", "/metrics", "/version", "/server_info", "/get_server_info", "/props"}
)
"""Paths that a router asks by itself. Faults without a path, and the counter of requests, leave them out."""


class Fault(Config, frozen=True):
    """One thing that goes wrong. Which fields count depends on the kind, see `MEANING`."""

    kind: Annotated[Kind, option("what happens")]
    path: Annotated[str, option("only on paths that begin so; empty: on all but probes")] = ""
    times: Annotated[int, option("how often; 0: until the faults are changed", ge=0)] = 0
    reused: Annotated[bool, option("only where the connection has carried a request before")] = False
    after: Annotated[int, option("chunks sent before it happens", ge=-1)] = 0
    seconds: Annotated[float, option("how long", unit="s", ge=0)] = 0.0
    code: Annotated[int, option("status of the answer", ge=100, le=599)] = 503
    by: Annotated[int, option("difference to the right number", unit="bytes")] = 0
    bytes: Annotated[int, option("size", unit="bytes", ge=1)] = 1
    data: Annotated[str, option("what to send, one character a byte")] = GARBAGE


def parse(text: str) -> Fault:
    """Read `kind:field=value,field=value`. `data` comes last and may hold anything, with Python's escapes.

    Raises `ConfigError` for an unknown kind or field, naming the nearest valid one.
    """
    kind, _, rest = text.partition(":")
    fields: dict[str, Any] = {"kind": kind}
    rest, comma, data = rest.partition("data=")
    if comma:
        fields["data"] = data.encode("latin-1").decode("unicode_escape")
    for pair in filter(None, rest.split(",")):
        key, _, value = pair.partition("=")
        fields[key] = _plain(key, value)
    return build(fields)


def build(fields: Mapping[str, Any]) -> Fault:
    """A fault from plain data. Raises `ConfigError`."""
    kind = fields.get("kind")
    if kind not in MEANING:
        raise ConfigError(f"unknown fault `{kind}`; there are: {', '.join(MEANING)}")
    if kind == "informational":
        fields = {"code": 103, **fields}
    return from_mapping(Fault, fields, f"fault {kind}")


def _plain(key: str, value: str) -> str | bool | int | float:
    if key == "path":
        return value
    if value in ("true", "false"):
        return value == "true"
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise ConfigError(f"{key}: `{value}` is not a number") from None


class FaultBook:
    """The faults in force, and how often each is still to happen."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = ()
        self._left: list[int] = []
        self.replace(faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        """From now on these, and no others."""
        self.faults = tuple(faults)
        self._left = [fault.times for fault in self.faults]

    def meet(self, path: str, reused: bool) -> dict[Kind, Fault]:
        """The faults that this request meets, the first of each kind; those that happen `times` are counted down."""
        met: dict[Kind, Fault] = {}
        for index, fault in enumerate(self.faults):
            if fault.kind in met or fault.kind == "refuse" or (fault.reused and not reused):
                continue
            if fault.times and not self._left[index]:
                continue
            if path.startswith(fault.path) if fault.path else path not in PROBES:
                self._left[index] -= 1
                met[fault.kind] = fault
        return met
