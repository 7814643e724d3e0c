"""The reference page of headers, from the tables that the router itself goes by.

Owns the layout and what is no table: the registry's few. May not live here: names, meanings, fates of the router's.
"""

from __future__ import annotations

from typing import Final

from enginehouse.wire.headers import ANSWER, REQUEST, TOLD, TRACEPARENT, TRACESTATE, Header
from enginehouse.wire.http1 import HOP_BY_HOP

HEAD: Final = """# Headers

Headers are passed on as they came, byte for byte and in order, both ways. This page has the exceptions: what the router
tells, what it reads, and what ends with it.

## What the router tells

In the head of every answer, errors included, unless it says otherwise:
"""

READ: Final = """
## What the router reads in a request

*Replaced* means that the engine gets a line of the router's own, made from what the value says here.
"""

TRACED: Final = """
And where requests are traced (`otlp_endpoint`):
"""

ADDED: Final = """
An engine gets, besides the client's own lines: `host` with its own address, `x-request-id`, `x-forwarded-for`,
`content-length` where there is a body, and `authorization: Bearer …` in the place of the client's where the service has
a key of its own ([how](../how-to/tls-and-keys.md)).

## What the router reads in an engine's answer
"""

HOPS: Final = """
An engine's own `x-request-id` and `x-enginehouse-…` never reach the client, and neither do trailers.

## What goes one hop only

Never passed on, in either direction (RFC 9110 7.6.1), nor is what `connection` names:

{names}.

## The router's own paths

`accept: text/event-stream` and `last-event-id` on `/events` and `if-none-match` on `/dashboard` mean what they mean
everywhere. An action there needs `authorization: Bearer` with the token of `admin_token_file`, and is refused where
`sec-fetch-site` or `origin` tell of another site's page. The page comes with headers that keep it from loading
anything from elsewhere and from being framed.

## The registry

It reads `authorization` (`Bearer`, where `token_file` is set: everything that writes needs it), `x-request-id` (as the
router does) and, for its feed, `last-event-id`. It answers with `x-request-id`, and with `retry-after` where it has to
refuse for the moment.
"""


def headers_page() -> str:
    """The whole page."""
    told = [f"| `{line.name.decode()}` | {line.meaning} |" for line in TOLD]
    hops = ", ".join(f"`{name.decode()}`" for name in sorted(HOP_BY_HOP))
    tables = [HEAD, "| header | value |\n|---|---|", *told, READ, *_known(REQUEST), TRACED]
    tables += [*_known((TRACEPARENT, TRACESTATE)), ADDED, *_known(ANSWER)]
    return "\n".join([*tables, HOPS.format(names=hops)])


def _known(headers: tuple[Header, ...]) -> list[str]:
    lines = [f"| `{header.name.decode()}` | {header.fate.value} | {header.meaning} |" for header in headers]
    return ["| header | is | meaning |\n|---|---|---|", *lines]
