"""What became of a request: right, honestly refused, honestly broken off, lost or wrong. Pure.

Owns `judge`, the one place that says what counts as what. May not live here: what a right answer is (`asks`), sums.

The rule: an answer is **right** where its text, the reason of its end and its usage are those of an undisturbed engine
and its shape is whole. An error is **honest** where a client cannot take it for an answer: an OpenAI-shaped body with a
status that says so, and `Retry-After` where the house is overloaded; or, once an answer has begun, the error event or a
connection that is cut, what came before being the beginning of the right answer. Everything else is **lost** (no
answer) or **wrong** (an answer that is not right, an error that blames the request, somebody else's answer).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from bench.chaos import asks
from bench.chaos.asks import Expected
from bench.chaos.client import End, Got

#: Statuses below 500 that are no reproach to the request.
BUSY = 429
#: Codes that a good request must never see: they say that the model does not exist, or that the router failed.
DISHONEST = ("model_not_found", "internal_error")
#: What begins the ids that the router makes: of refusals on a new connection, before the request was read.
MADE = "req-"


@enum.unique
class Kind(enum.Enum):
    """What became of a request."""

    RIGHT = "right"
    REFUSED = "refused"
    BROKEN_OFF = "broken_off"
    LOST = "lost"
    WRONG = "wrong"


#: Raises `ValueError` where the events of a stream, or the one object of a whole answer, are not what they should be.
Shape = Callable[[Sequence[dict[str, Any]]], None]


class Verdict(NamedTuple):
    """`why` is "" for a right answer."""

    kind: Kind
    why: str = ""
    identical: bool = False
    """Byte for byte what the undisturbed engine sent, but for ids and times."""
    resumed: bool = False
    """The stream says that another engine went on with it."""


class Wrong(Exception):
    """What is wrong with an answer."""


def judge(got: Got, stream: bool, right: Expected, request_id: str, shape: Shape | None = None) -> Verdict:
    """`shape`: for engines whose text may differ in a detail from one run to the next, what all answers must be."""
    if got.end is End.MALFORMED:
        return Verdict(Kind.WRONG, f"not HTTP: {got.detail}")
    if got.end in (End.UNREACHABLE, End.CLOSED) or not got.status:
        return Verdict(Kind.LOST, f"{got.end.value} ({got.detail})")
    if got.end is End.SILENT:
        return Verdict(Kind.LOST, f"{got.end.value}, after {len(got.body)} bytes of status {got.status}")
    try:
        echo = got.headers.get("x-request-id", "")
        unread = got.status == 503 and not got.reused and echo.startswith(MADE)
        if request_id and echo != request_id and not unread:
            raise Wrong(f"an answer to another request: x-request-id {echo[:40]!r}")
        if got.status != 200:
            return _refusal(got)
        return _stream(got, right, shape) if stream else _whole(got, right, shape)
    except Wrong as wrong:
        return Verdict(Kind.WRONG, str(wrong))
    except (ValueError, LookupError, TypeError, AttributeError) as wrong:
        return Verdict(Kind.WRONG, f"{type(wrong).__name__}: {wrong}: …{got.body[-120:]!r}")


def _refusal(got: Got) -> Verdict:
    if got.end is End.CUT:
        return Verdict(Kind.BROKEN_OFF, f"{got.status}, cut")
    error = msgspec.json.decode(got.body)["error"]
    what = f"{got.status} {error.get('code') or error.get('type')}"
    if not isinstance(error["message"], str) or not isinstance(error["type"], str):
        raise Wrong(f"{what}: not the shape of an error of OpenAI's")
    if not {"param", "code"} <= error.keys() or not isinstance(error["code"], str | None):
        raise Wrong(f"{what}: not the shape of an error of OpenAI's")
    if (got.status < 500 and got.status != BUSY) or error["code"] in DISHONEST:
        raise Wrong(f"{what}: blames a request that is good: {error['message'][:100]}")
    if error["code"] == "server_is_overloaded" and not got.headers.get("retry-after", "").isdecimal():
        raise Wrong(f"{what}: without Retry-After")
    return Verdict(Kind.REFUSED, what)


def _whole(got: Got, right: Expected, shape: Shape | None) -> Verdict:
    if got.end is End.CUT:
        return Verdict(Kind.BROKEN_OFF, "cut")
    told = [msgspec.json.decode(got.body)]
    if shape:
        return _similar(told, right, shape)
    if tuple(map(asks.plain, told)) != right.events:
        raise Wrong(f"another answer: {got.body[:120]!r}")
    return Verdict(Kind.RIGHT, identical=asks.wire(got.body, told) == right.wire)


def _stream(got: Got, right: Expected, shape: Shape | None) -> Verdict:
    if not got.headers.get("content-type", "").startswith("text/event-stream"):
        raise Wrong(f"not a stream of events: {got.headers.get('content-type', '')[:60]!r}")
    told = asks.events(got.body)
    resumed = b"\n: enginehouse: continued" in b"\n" + got.body
    if any(event is not None and "error" in event for event in told):
        return _broken(told, right, shape, resumed)
    done = told[-1:] == [None]
    if not done and got.end is End.CUT:
        if not shape and not right.text.startswith(asks.text(told)):
            raise Wrong(f"cut, and what came before is not the right text: …{got.body[-120:]!r}")
        return Verdict(Kind.BROKEN_OFF, "cut", resumed=resumed)
    if not done or None in told[:-1]:
        raise Wrong(f"a stream that ends as if it were complete: …{got.body[-120:]!r}")
    if got.end is End.CUT:
        return Verdict(Kind.BROKEN_OFF, "cut behind its [DONE]", resumed=resumed)
    told.pop()
    if shape:
        _well_formed(told, ("id",))
        return _similar(told, right, shape)._replace(resumed=resumed)
    return _same(got, told, right, resumed)


def _same(got: Got, told: list[dict[str, Any]], right: Expected, resumed: bool) -> Verdict:
    """A complete stream: what it says has to be the same, how it is cut into events need not."""
    _well_formed(told)
    if asks.text(told) != right.text:
        raise Wrong(f"another text: {asks.text(told)[:60]!r} instead of {right.text[:60]!r}")
    if asks.ends(told) != right.ends:
        raise Wrong(f"another end: {asks.ends(told)} instead of {right.ends}")
    if _usage(told) != _usage(right.events):
        raise Wrong(f"another usage: {_usage(told)} instead of {_usage(right.events)}")
    return Verdict(Kind.RIGHT, identical=asks.wire(got.body, told) == right.wire, resumed=resumed)


def _similar(told: list[dict[str, Any]], right: Expected, shape: Shape) -> Verdict:
    """An answer of an engine whose text may differ in a detail."""
    shape(told)
    if len(asks.ends(told)) != 1 or not asks.text(told):
        raise Wrong(f"not a complete answer: {str(told)[:120]}")
    return Verdict(Kind.RIGHT, identical=asks.text(told) == right.text)


def _well_formed(told: list[dict[str, Any]], same: Sequence[str] = asks.OWN) -> None:
    """One id, time and fingerprint all through (llama.cpp tells the time anew), the role once and first, usage once."""
    for name in same:
        if len({msgspec.json.encode(event.get(name)) for event in told}) > 1:
            raise Wrong(f"`{name}` changes within the stream")
    roles = [at for at, event in enumerate(told) for each in event["choices"] if "role" in (each.get("delta") or {})]
    if roles not in ([], [0]):
        raise Wrong(f"the role is told in the events {roles[:5]}")
    if sum(bool(event.get("usage")) for event in told) > 1:
        raise Wrong("usage is told more than once")


def _usage(told: Any) -> object:
    return next((event["usage"] for event in told if event.get("usage")), None)


def _broken(told: list[Any], right: Expected, shape: Shape | None, resumed: bool) -> Verdict:
    """A stream with an error event: it has to be the last, and before it there may be nothing but the right text."""
    last = told[-1]
    if last is None or "error" not in last or None in told:
        raise Wrong("an error in the middle of a stream that goes on")
    error = last["error"]
    if not isinstance(error["message"], str) or not isinstance(error["type"], str):
        raise Wrong("the error event has not the shape of OpenAI's")
    if not shape and not right.text.startswith(asks.text(told[:-1])):
        raise Wrong("what came before the error is not the right text")
    return Verdict(Kind.BROKEN_OFF, f"error event {error.get('code')}", resumed=resumed)
