"""Every header that means something to the router: what it reads, what it sets, what it does not pass on.

Owns the tables; `request_head` and `answer_head` take their rules from them, the reference page its rows. May not live
here: what is done with a value.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from enginehouse.wire.http1 import HOP_BY_HOP


@enum.unique
class Fate(enum.Enum):
    """What becomes of a header that the router knows, on its way through."""

    PASSED = "passed on"
    ENDS = "not passed on"
    OURS = "replaced"


class Header(NamedTuple):
    """One header: its name in lower case, what becomes of the sender's own line, what it means here."""

    name: bytes
    fate: Fate
    meaning: str


class Line(NamedTuple):
    """One line of ours: the name in lower case, how `%` writes its value, what it tells."""

    name: bytes
    value: bytes
    meaning: str


#: Of a request: the headers that the router reads. All others are passed on, but for `HOP_BY_HOP`.
REQUEST: Final = (
    Header(b"host", Fate.OURS, "must be there, once (RFC 9110 7.2); the engine gets its own address"),
    Header(b"connection", Fate.ENDS, "`close`: no more requests on this connection; what it names is not passed on"),
    Header(b"content-length", Fate.OURS, "where the body ends; one number, and not beside `transfer-encoding`"),
    Header(b"transfer-encoding", Fate.ENDS, "`chunked`, alone: bodies reach the engine whole, with their length"),
    Header(b"content-type", Fate.PASSED, "`multipart/…`: the model is looked for in a form, else in JSON"),
    Header(b"content-encoding", Fate.PASSED, "415 where the model stands in the body, unless `encoded_bodies` is on"),
    Header(b"authorization", Fate.PASSED, "whose turn it is in a queue; an engine with an `api_key` gets that instead"),
    Header(b"x-api-key", Fate.PASSED, "a key, too; of keys the access log has a hash"),
    Header(b"api-key", Fate.PASSED, "likewise"),
    Header(b"user-agent", Fate.PASSED, "with an address of a trusted proxy: which conversation this is"),
    Header(b"x-request-id", Fate.OURS, "the request's id, where it is 1 to 128 printable ASCII characters"),
    Header(b"x-forwarded-for", Fate.OURS, "whose request this is, from `trusted_proxies` only; the peer is appended"),
    Header(b"expect", Fate.ENDS, "`100-continue` is answered here; everything else is 417"),
    Header(b"upgrade", Fate.OURS, "`websocket`, with GET, becomes a tunnel; other offers are ignored"),
    Header(b"sec-websocket-key", Fate.PASSED, "answered here where the model comes within the WebSocket"),
    Header(b"sec-websocket-protocol", Fate.PASSED, "likewise; `realtime` is the one accepted"),
    Header(b"x-session-id", Fate.PASSED, "requests that name the same are one conversation: they go to one service"),
    Header(b"x-enginehouse-policy", Fate.PASSED, "the policy for this request, where `allow_policy_header` is on"),
)
#: Of a request that is traced (`otlp_endpoint`, `trace_sample`); of others they are headers like any other.
TRACEPARENT: Final = Header(
    b"traceparent",
    Fate.OURS,
    "the trace goes on: the engine's parent is the router's span. Without it a trace begins here",
)
TRACESTATE: Final = Header(b"tracestate", Fate.PASSED, "left out where the trace begins here")
#: Of an engine's answer, likewise.
ANSWER: Final = (
    Header(b"connection", Fate.ENDS, "`close`: the connection is not used again; what it names is not passed on"),
    Header(b"content-length", Fate.OURS, "where the body ends; the client is told the same"),
    Header(b"transfer-encoding", Fate.OURS, "`chunked`; a coding besides it is a `bad_response`"),
    Header(b"upgrade", Fate.OURS, "of a 101: the protocol that the tunnel speaks"),
    Header(b"content-type", Fate.PASSED, "`text/event-stream`: where it breaks, an error event ends it"),
    Header(b"content-encoding", Fate.PASSED, "encoded answers are not looked into for `usage`"),
    Header(b"server", Fate.PASSED, "`llama.cpp`: a connection that it will close without saying so is not used again"),
    Header(
        b"retry-after",
        Fate.PASSED,
        "of an answer that is tried elsewhere: seconds for which this service gets no requests",
    ),
)

#: Written into the head of every answer, in this order.
EVERY: Final = (
    Line(
        b"x-request-id",
        b"%b",
        "the client's own if it is 1 to 128 printable ASCII characters, else a new one; the engine gets it too",
    ),
    Line(b"x-enginehouse-service", b"%b", "name of the service that answered, `-` if none did"),
    Line(b"x-enginehouse-attempts", b"%d", "attempts made, 0 where no service was asked"),
    Line(b"x-enginehouse-queue-ms", b"%d", "time the request waited for its turn, in milliseconds"),
    Line(b"x-enginehouse-overhead-ms", b"%.3f", "the router's own time until the head was sent, in milliseconds"),
    Line(
        b"x-enginehouse-reason",
        b"%b",
        "why this service: the policy's name, `only` (no other could), `session` (affinity), `remembered` (it made the "
        "id that the request names), `own` (the router itself), the outcome's name where the request was refused, `-` "
        "if none was chosen; where the policy is `prefix`, followed by the part of the prompt that it is thought to "
        "have in its cache: `prefix 87%`",
    ),
)
#: Written after those where it applies.
QUEUED: Final = Line(
    b"x-enginehouse-queue-position", b"%d", "its place when it began to wait, from 1; only where it had to"
)
#: Of refusals (`wire.errors`), as the table of outcomes says.
RETRY_AFTER: Final = Line(b"retry-after", b"%d", "of a refusal: seconds after which trying again makes sense")
SHOULD_RETRY: Final = Line(
    b"x-should-retry", b"%b", "of a refusal: `false` where trying again is useless; OpenAI's SDKs obey it"
)
#: Everything that the router tells a client.
TOLD: Final = (*EVERY, QUEUED, RETRY_AFTER, SHOULD_RETRY)


def template(lines: tuple[Line, ...]) -> bytes:
    """Header lines for `%` with one value for each."""
    return b"".join(b"%b: %b\r\n" % (line.name, line.value) for line in lines)


#: Names that the router looks for in a request.
READ: Final = frozenset(header.name for header in REQUEST)
#: What of a request goes no further as it is: hop-by-hop, answered here, or replaced by our own.
KEPT_FROM_ENGINES: Final = HOP_BY_HOP | {header.name for header in REQUEST if header.fate is not Fate.PASSED}
#: What of an answer goes no further as it is: nobody but the router says what its own headers say.
KEPT_FROM_CLIENTS: Final = (
    HOP_BY_HOP
    | {header.name for header in ANSWER if header.fate is not Fate.PASSED}
    | {line.name for line in (*EVERY, QUEUED)}
)
