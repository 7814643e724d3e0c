"""One request and what was heard of its answer: when it was due, sent, answered first and last, and how it ended.

Owns `Call`, `Ending`, and the reading of a streamed answer, with no more work than needed: events are parsed until the
first token has come, then only the last few KiB are kept, which hold the usage. May not live here: sockets and HTTP
(`client`), what many calls amount to (`figures`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from enginehouse.replay.traces import Turn
from enginehouse.wire.usage import usage

TAIL: Final = 4096
"""Bytes at the end of an answer that are looked at; a last event with usage takes about 500."""
HEAD: Final = 1 << 20
"""Bytes without a token after which the first one is no longer looked for."""
PIECES: Final = 64
"""Pieces of an answer after which all but its tail is forgotten."""
KEPT: Final = 1 << 17
"""The same where a session goes on with the answer: more is no answer that anybody asked for."""
ERROR: Final = 4096


class Ending(StrEnum):
    """How a call ended. Everything but `ANSWERED` and `UNFINISHED` is an error."""

    ANSWERED = "answered"
    REJECTED = "rejected"  # 429 and 503: somebody is overloaded or has nobody
    STATUS = "status"  # another status than 200
    CONNECT = "connect"
    LOST = "connection lost"
    TRUNCATED = "truncated"  # ended without [DONE]
    BROKEN = "error in the stream"
    EMPTY = "no token"
    NO_STREAM = "not a stream"
    FRAMING = "not HTTP"
    SILENT = "silent"
    NOT_SENT = "not sent"  # more in flight than the replay allows
    UNFINISHED = "unfinished"  # the replay was stopped


REJECTS: Final = frozenset((429, 503))


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class Call:
    """A request of a replay. Times are seconds of one clock, 0 where it did not come to that; tokens untold are -1."""

    __slots__ = (
        "_error",
        "_keeps",
        "_pieces",
        "_stream",
        "attempts",
        "cached",
        "completion",
        "detail",
        "due",
        "end",
        "ending",
        "events",
        "first",
        "head",
        "prompt",
        "resent",
        "sent",
        "service",
        "session",
        "status",
        "turn",
    )

    def __init__(self, session: int, turn: Turn, due: float, keeps: bool = False) -> None:
        self.session = session
        self.turn = turn
        self.due = due
        """When it was to be sent: times to the first token are counted from here."""
        self.sent = self.head = self.first = self.end = 0.0
        self.ending = Ending.UNFINISHED
        self.detail = ""
        """What tells errors of one kind apart: the status and its code, or what the system said."""
        self.status = 0
        self.service = ""
        self.attempts = 0
        """Services that the router tried; 0 where it does not say."""
        self.resent = False
        """Sent again on a new connection, since a kept one had been closed meanwhile."""
        self.prompt = self.completion = self.cached = -1
        self.events = 0
        self._stream = False
        self._keeps = keeps
        self._pieces: list[bytes] = []
        """Up to the first token, or where the answer is kept: all that has come. Else the last of it."""
        self._error = b""

    def begun(self, status: int, stream: bool, now: float) -> None:
        """The answer's head has come."""
        self.status = status
        self.head = now
        self._stream = stream

    def feed(self, data: bytes, now: float) -> None:
        """Bytes of the answer's body."""
        if self.status != 200:
            self._error = (self._error + data)[:ERROR]
            return
        self.events += data.count(b"data:")
        self._pieces.append(data)
        if not self.first:
            self._look_for_a_token(now)
        elif len(self._pieces) > (KEPT if self._keeps else PIECES):
            self._pieces = [self._tail]

    @property
    def _tail(self) -> bytes:
        """The last that has come."""
        return b"".join(self._pieces)[-TAIL:]

    @property
    def done(self) -> bool:
        """The stream has said that it is complete."""
        return b"[DONE]" in self._tail[-64:]

    def whole(self, now: float) -> None:
        """The answer has ended as HTTP's rules have it."""
        tail = self._tail
        if told := usage(tail):
            self.prompt, self.completion = told.prompt, told.completion
            self.cached = -1 if told.cached is None else told.cached
        last = map(_event, _lines(tail))
        failed = next((event.error for event in last if event and event.error is not None), None)
        if self.status in REJECTS:
            self.over(Ending.REJECTED, now, f"{self.status} {_code(self._error)}".rstrip())
        elif self.status != 200:
            self.over(Ending.STATUS, now, f"{self.status} {_code(self._error)}".rstrip())
        elif not self._stream:
            self.over(Ending.NO_STREAM, now)
        elif failed is not None:
            self.over(Ending.BROKEN, now, _code_of(failed))
        elif not self.done:
            self.over(Ending.TRUNCATED, now)
        else:
            self.over(Ending.ANSWERED if self.first else Ending.EMPTY, now)

    def over(self, ending: Ending, now: float, detail: str = "") -> None:
        """It has ended, in this way."""
        self.ending, self.detail, self.end = ending, detail, now
        if not self._keeps or ending is not Ending.ANSWERED:
            self._pieces.clear()
        self._error = b""

    def again(self) -> None:
        """It is asked anew: nothing had come."""
        self.resent = True

    def text(self) -> str:
        """The answer's text, where it was kept."""
        told = (_event(line) for line in _lines(b"".join(self._pieces)))
        return "".join(
            (choice.text or (choice.delta.content if choice.delta else "") or "")
            for event in told
            if event
            for choice in (event.choices or [])[:1]
        )

    def _look_for_a_token(self, now: float) -> None:
        """See whether what has come holds text."""
        seen = b"".join(self._pieces)
        self._pieces = [seen]
        if len(seen) > HEAD or any(map(_speaks, _lines(seen))):
            self.first = now


def _lines(data: bytes) -> list[bytes]:
    """What the `data:` lines hold; one that was cut is what is left of it."""
    return [line[5:] for line in data.splitlines() if line.startswith(b"data:")]


def _event(line: bytes) -> _Event | None:
    """None for what is not JSON, [DONE] among it, or of another shape."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None


def _speaks(line: bytes) -> bool:
    """Whether an event brings text, or the beginning of a call of a tool."""
    event = _event(line)
    for choice in (event.choices or []) if event else []:
        delta = choice.delta
        if choice.text or (delta and (delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)):
            return True
    return False


def _code(body: bytes) -> str:
    """The code, or the type, of an error in OpenAI's shape."""
    try:
        return _code_of(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, RecursionError, TypeError, KeyError):
        return ""


def _code_of(error: object) -> str:
    told = (error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
    return str(told)[:64]
