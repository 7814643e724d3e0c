"""One case: what a client sends, what the engines answer to it, and how both cut it into pieces and end.

Owns `Case` and making it of a seed and a number: the same two always make the same case. May not live here: sending.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.fuzz.corpus import ANSWERS, DIGITS, REQUESTS, TAG
from bench.fuzz.mutate import mutate

#: Requests whose right answer is known: what their engine says is told to the client.
PLAIN: Final = (
    *("chat", "stream", "completion", "embedding", "message", "rerank", "form", "chunks", "odd chunks", "expect"),
    *("h2c", "close", "named hop", "old, kept", "alias", "cached", "long"),
)
_REQUESTS: Final = tuple(REQUESTS.values())
_ANSWERS: Final = tuple(ANSWERS.values())
#: Of these there are more: what may be gone on with by another engine has the most to go wrong.
_STREAM_SHARE: Final = 0.3
_STREAMS: Final = tuple(data for data in _ANSWERS if b"text/event-stream" in data)


class Kind(enum.Enum):
    """What is wrong in a case."""

    PLAIN = "nothing"
    REQUEST = "the request"
    ANSWER = "the answer"
    BOTH = "both"


class Leave(enum.Enum):
    """What the client does when it has sent everything."""

    WAIT = "waits until the connection ends"
    CLOSE = "closes"
    RESET = "resets"
    HALF = "closes its sending side"
    SLOW = "reads slowly"


class End(enum.Enum):
    """What the engine does behind its answer."""

    KEEP = "keeps the connection"
    CLOSE = "closes"
    RESET = "resets"
    STALL = "says nothing more"


@dataclass(frozen=True)
class Answer:
    """What an engine says. `early`: before it has read the request's body."""

    data: bytes
    cuts: tuple[int, ...] = ()
    end: End = End.KEEP
    early: bool = False


@dataclass(frozen=True)
class Case:
    """Everything that happens in one case. `answers`: one for each attempt; none: the engine tells the tag."""

    number: int
    kind: Kind
    name: str
    changes: tuple[str, ...]
    request: bytes
    cuts: tuple[int, ...] = ()
    leave: Leave = Leave.WAIT
    answers: tuple[Answer, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong with its request, so that there is one answer to it."""
        return self.kind in (Kind.PLAIN, Kind.ANSWER)

    @property
    def tag(self) -> bytes:
        """The number, as it stands in the texts."""
        return tag(self.number)


def tag(number: int) -> bytes:
    """A number in as many digits as its placeholder has."""
    return b"%0*d" % (DIGITS, number)


def make(seed: int, number: int) -> Case:
    """The case of this number."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(Kind), (15, 40, 35, 10))[0]
    streams = rng.random() < _STREAM_SHARE
    names = list(REQUESTS) if kind in (Kind.REQUEST, Kind.BOTH) else PLAIN
    name = "stream" if streams else rng.choice(names)
    request = REQUESTS[name]
    changes: tuple[str, ...] = ()
    if kind in (Kind.REQUEST, Kind.BOTH):
        request, changes = mutate(request, _REQUESTS, rng)
    answers: list[Answer] = []
    if kind in (Kind.ANSWER, Kind.BOTH):
        for _ in range(rng.choice((1, 1, 2, 3))):
            answer, done = _answer(_STREAMS if streams else _ANSWERS, rng)
            answers.append(answer)
            changes += done
    waits = kind is Kind.PLAIN and rng.random() < 0.8
    leave = Leave.WAIT if waits else rng.choices(list(Leave), (70, 10, 10, 5, 5))[0]
    return Case(
        number, kind, name, changes, request.replace(TAG, tag(number)), _cuts(request, rng), leave, tuple(answers)
    )


def _answer(among: Sequence[bytes], rng: random.Random) -> tuple[Answer, tuple[str, ...]]:
    """One answer: broken, or right and cut in odd places, or ended where it should not."""
    data = rng.choice(among)
    changes: tuple[str, ...] = ()
    if rng.random() < 0.8:
        data, changes = mutate(data, _ANSWERS, rng)
    end = rng.choices(list(End), (50, 25, 10, 15))[0]
    return Answer(data, _cuts(data, rng), end, rng.random() < 0.05), changes


def _cuts(data: bytes, rng: random.Random) -> tuple[int, ...]:
    """Where it is cut: mostly nowhere, else in a few places, rarely behind each of the first bytes."""
    chance = rng.random()
    if chance < 0.6 or len(data) < 2:
        return ()
    if chance < 0.95:
        return tuple(sorted({rng.randrange(1, len(data)) for _ in range(rng.choice((1, 1, 2, 5)))}))
    first = rng.randrange(len(data))
    return tuple(range(max(1, first), min(len(data), first + 60)))


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data`, cut."""
    places = [0, *(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places) if end > start]


def as_json(case: Case) -> dict[str, Any]:
    """For a file: everything needed to play it again, `text` for people."""
    return {
        "number": case.number,
        "wrong": case.kind.value,
        "begun_as": case.name,
        "changes": list(case.changes),
        "request": base64.b64encode(case.request).decode(),
        "text": ascii(case.request[:500].decode("latin-1")),
        "cuts": list(case.cuts),
        "client": case.leave.value,
        "answers": [_answer_as_json(one) for one in case.answers],
    }


def _answer_as_json(answer: Answer) -> dict[str, Any]:
    return {
        "data": base64.b64encode(answer.data).decode(),
        "text": ascii(answer.data[:500].decode("latin-1")),
        "cuts": list(answer.cuts),
        "end": answer.end.value,
        "early": answer.early,
    }


def from_json(told: dict[str, Any]) -> Case:
    """What `as_json` told."""
    answers = tuple(
        Answer(base64.b64decode(one["data"]), tuple(one["cuts"]), End(one["end"]), one["early"])
        for one in told["answers"]
    )
    return Case(
        told["number"],
        Kind(told["wrong"]),
        told["begun_as"],
        tuple(told["changes"]),
        base64.b64decode(told["request"]),
        tuple(told["cuts"]),
        Leave(told["client"]),
        answers,
    )


def with_number(case: Case, number: int) -> Case:
    """The same case under another number, so that it can be played again."""
    return dataclasses.replace(case, number=number, request=case.request.replace(case.tag, tag(number)))
