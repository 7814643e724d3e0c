"""Requests that are over to lines of the access log: JSON for programs, text for people.

Owns: `Record` (what the log is told of a request), which of it becomes a line, how what clients sent is made harmless,
and the lengths of it all. May not live here: files, threads, clocks (`data.access_log`), counting (`data`).

A batch is made at once and costs about 0.8 µs a request: forms of names are remembered (`Forms`), times of the same
millisecond are written once, and msgspec makes the JSON. No line holds a body, a key (but a hash of it), a query or a
header other than the request's id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from enginehouse.core.outcome import Outcome, termination
from enginehouse.wire.trace_context import Trace
from enginehouse.wire.usage import Usage

T = TypeVar("T")

#: Characters of a name and of a path in a line; what is longer is cut and ends in "...".
MAX_NAME: Final = 128
MAX_PATH: Final = 256
#: No line is longer, in bytes: the names above with every character escaped in its longest form. Pipes take this much
#: at once or not at all (PIPE_BUF on Linux), so that the lines of several workers never mix.
MAX_LINE: Final = 4096
_ANSWERED: Final = Outcome.ANSWERED
_DONE: Final = Outcome.ANSWERED.termination
#: Forms remembered of each kind of name; names longer than a path may be are worked out every time.
MAX_FORMS: Final = 1024


class Record(NamedTuple):
    """What is told of one request when it is over: a plain tuple with these fields in this order (`Entry`) does, too.

    Times are monotonic seconds. Strings are as they came: nothing is escaped or cut before it becomes a line.
    """

    begun: float
    """When the whole request was there."""
    ended: float
    """When the last of the answer was handed to the client's connection, or when it was given up."""
    first_byte: float
    """When the first byte of the answer came from the engine, of an event stream that of its body (some engines send
    the head at once); 0.0 where none came."""
    queued: float
    """Seconds for which it waited for a service."""
    id: bytes
    """The request's id, as in the answer: at most 128 printable ASCII characters."""
    client: str
    """The client's address."""
    method: bytes
    target: bytes
    """The request's target as sent; its query stays out of the line."""
    model: str
    """The model asked for, aliases resolved; "" where none is named."""
    service: str
    """Who answered or was tried last; "" where nobody was."""
    status: int
    """The status sent to the client; 0 where none was."""
    outcome: Outcome
    attempts: int
    bytes_in: int
    """Bytes of the request's body."""
    bytes_out: int
    """Bytes of the answer's body."""
    stream: bool
    """Whether the answer was an event stream."""
    usage: Usage | None
    """Tokens that it took, where the engine told."""
    warm: float
    """The part of the prompt that was thought to be in the service's cache; negative where nobody looked."""
    reason: str
    """Why its service was chosen, in one word; "" where none was."""
    key: bytes
    """The key that came with the request, with its scheme; b"" for none. A secret: never shown, only a hash of it."""
    overhead: float
    """Seconds that the router added before it was sent to a service; negative where it was not."""
    own: bool
    """It was for a path of the router's own, which control answers."""
    prompt: int
    """Bytes of the prompt; 0 where nobody looked for one."""
    trace: Trace | None = None
    """Its span, where it is traced; no line shows it."""


#: `Record` without its class: what the hot path makes.
Entry = tuple[
    float, float, float, float, bytes, str, bytes, bytes, str, str, int, Outcome, int, int, int, bool,
    Usage | None, float, str, bytes, float, bool, int, Trace | None,
]  # fmt: skip
#: Where `Record.reason`, `Record.key` and `Record.trace` stand.
REASON: Final = Record._fields.index("reason")
KEY: Final = Record._fields.index("key")
TRACE: Final = Record._fields.index("trace")


class Lines(Protocol):
    """A format of the log."""

    def encode(self, entries: Iterable[Entry], offset: float) -> bytes:
        """One line for each request, in order. `offset`: seconds from monotonic to wall clock (Unix) time."""

    def dropped(self, count: int, wall: float) -> bytes:
        """The line that stands in for `count` lines which could not be kept. `wall`: Unix time in seconds."""


class _Line(msgspec.Struct, gc=False):
    """A line in JSON. Names are ready-made JSON, quotes included."""

    time: str
    id: str
    client: msgspec.Raw
    method: msgspec.Raw
    path: msgspec.Raw
    model: msgspec.Raw
    service: msgspec.Raw
    status: int
    outcome: Outcome
    termination: str
    attempts: int
    queue_ms: float
    first_byte_ms: float | None
    duration_ms: float
    bytes_in: int
    bytes_out: int
    stream: bool
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    warm: float | None
    key: str | None


class _Dropped(msgspec.Struct):
    time: str
    dropped: int


class JsonLines:
    """One object a line; ASCII only, so that no program and no terminal takes any of it for something else."""

    def __init__(self) -> None:
        self._times = Times()
        self._names = Forms(lambda name: msgspec.Raw(json_name(name).encode()))
        self._paths = Forms(lambda target: msgspec.Raw(json_name(path_of(target), MAX_PATH).encode()))
        self._keys = Forms(key_hash)
        self._encoder = msgspec.json.Encoder()

    def encode(self, entries: Iterable[Entry], offset: float) -> bytes:
        """See `Lines`. Milliseconds are cut to tenths: rounding would cost as much as all of the JSON."""
        times, names, paths, keys = self._times, self._names, self._paths, self._keys
        return self._encoder.encode_lines(
            [
                _Line(
                    times[int((ended + offset) * 1000)],
                    id.decode("latin-1"),
                    names[client],
                    names[method],
                    paths[target],
                    names[model],
                    names[service],
                    status,
                    outcome,
                    _DONE if outcome is _ANSWERED else termination(outcome, attempts, first_byte > 0),
                    attempts,
                    int(queued * 10000) / 10 if queued else 0.0,
                    int((first_byte - begun) * 10000) / 10 if first_byte else None,
                    int((ended - begun) * 10000) / 10,
                    bytes_in,
                    bytes_out,
                    stream,
                    usage.prompt if usage is not None else None,
                    usage.completion if usage is not None else None,
                    usage.cached if usage is not None else None,
                    int(warm * 100) / 100 if warm >= 0 else None,
                    keys[key] if key else None,
                )
                for (
                    begun, ended, first_byte, queued, id, client, method, target, model, service,
                    status, outcome, attempts, bytes_in, bytes_out, stream, usage, warm, _reason, key,
                    _overhead, _own, _prompt, _trace,
                ) in entries
            ]
        )  # fmt: skip

    def dropped(self, count: int, wall: float) -> bytes:
        """See `Lines`."""
        return self._encoder.encode_lines([_Dropped(self._times[int(wall * 1000)], count)])


class TextLines:
    """For a person at a terminal: what is looked at first stands first, and in columns. Fields end at blanks."""

    def __init__(self) -> None:
        self._times = Times()
        self._names = Forms(text_name)
        self._paths = Forms(lambda target: text_name(path_of(target), MAX_PATH))
        self._keys = Forms(key_hash)

    def encode(self, entries: Iterable[Entry], offset: float) -> bytes:
        """See `Lines`."""
        return "".join([self._line(entry, offset) for entry in entries]).encode()

    def _line(self, entry: Entry, offset: float) -> str:
        begun, ended, first_byte, queued, id, client, method, target, model, service = entry[:10]
        status, outcome, attempts, bytes_in, bytes_out, stream, usage, warm, _, key = entry[10:20]
        names = self._names
        ended_by = termination(outcome, attempts, first_byte > 0)
        first = f"{(first_byte - begun) * 1000:.1f}ms" if first_byte else "-"
        return (
            f"{self._times[int((ended + offset) * 1000)]} {status:03d} {(ended - begun) * 1000:9.1f}ms"
            f" {names[method]} {self._paths[target]} model={names[model]} service={names[service]}"
            f" {outcome.value} {ended_by} attempts={attempts} queue={queued * 1000:.1f}ms first={first}"
            f" in={bytes_in} out={bytes_out}{' stream' if stream else ''}{_tokens(usage, warm)}"
            f" client={names[client]}{f' key={self._keys[key]}' if key else ''} id={text_name(id)}\n"
        )

    def dropped(self, count: int, wall: float) -> bytes:
        """See `Lines`."""
        return (
            f"{self._times[int(wall * 1000)]} dropped {count} lines: they came faster than they were written\n".encode()
        )


def _tokens(usage: Usage | None, warm: float) -> str:
    """What is known of the prompt, with a blank before."""
    took = f" tokens={usage.prompt}+{usage.completion}" if usage is not None else ""
    cached = f" cached={usage.cached}" if usage is not None and usage.cached is not None else ""
    return took + cached + (f" warm={int(warm * 100)}%" if warm >= 0 else "")


class Forms(dict[str | bytes, T]):
    """What names look like in a line, each worked out once; as many as are worth it."""

    def __init__(self, form: Callable[[str | bytes], T]) -> None:
        self._form = form

    def __missing__(self, name: str | bytes) -> T:
        found = self._form(name)
        # A query may hold secrets, and no two are alike: not kept.
        if len(name) <= MAX_PATH and not (isinstance(name, bytes) and b"?" in name):
            if len(self) >= MAX_FORMS:
                self.clear()
            self[name] = found
        return found


class Times(dict[int, str]):
    """Milliseconds since 1970 as RFC 3339 in UTC."""

    _second = -1
    _text = ""

    def __missing__(self, ms: int) -> str:
        second, rest = divmod(ms, 1000)
        if second != self._second:
            self._second, self._text = second, (_EPOCH + timedelta(seconds=second)).isoformat()[:19]
        if len(self) >= MAX_FORMS:
            self.clear()
        text = self[ms] = f"{self._text}.{rest:03d}Z"
        return text


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def json_name(name: str | bytes, longest: int = MAX_NAME) -> str:
    """A name in JSON, quotes included: printable ASCII, from which a parser gets the name (of a long one the start)."""
    text = name if isinstance(name, str) else name.decode("latin-1")
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    return json.dumps(text).replace("\x7f", "\\u007f")


def text_name(name: str | bytes, longest: int = MAX_NAME) -> str:
    """A name as it is; as in JSON where it holds blanks, quotes or anything that has to be escaped; "-" for none."""
    text = name if isinstance(name, str) else name.decode("latin-1")
    if not text:
        return "-"
    return text if len(text) <= longest and _PLAIN.fullmatch(text) else json_name(text, longest)


_PLAIN: Final = re.compile(r"(?!-\Z)[!#-\[\]-~]+")


def key_hash(key: str | bytes) -> str:
    """Eight hex digits that stand for a key, the same for it in every router and every log.

    `key` may come with its scheme (`Bearer `), which does not count. BLAKE2b with a person string and no salt, so that
    logs of several routers can be joined; who guesses a key can check the guess, which for random keys is hopeless.
    """
    raw = key.encode() if isinstance(key, str) else key
    scheme, _, rest = raw.partition(b" ")
    secret = rest.strip() if rest and scheme.isalpha() else raw
    return blake2b(secret, digest_size=4, person=b"enginehouse-key").hexdigest()


def path_of(target: str | bytes) -> str:
    """The path of a request's target, without query and fragment; bytes that no path may have are percent-encoded.

    A host, which may carry a password (`http://user:password@host/`), is left out, and what is no path at all is "".
    """
    target = target.encode() if isinstance(target, str) else target
    target = _ABSOLUTE.sub(b"", target, count=1)
    path = re.split(rb"[?#]", target, maxsplit=1)[0]
    if path != b"*" and not path.startswith(b"/"):
        return ""
    return quote(path[: MAX_PATH + 1], safe=_SAFE)  # one more than is shown, so that the cut is seen


#: RFC 9112 3.2.2.
_ABSOLUTE: Final = re.compile(rb"^[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')
