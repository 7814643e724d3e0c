"""The reference page of errors, from the table of outcomes and the texts of error answers.

Owns what the table does not say: what outcomes without an answer mean, the registry's own. May not live here: statuses,
codes, texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from enginehouse.core.outcome import AT_ANY_TIME, Outcome, Phase, Retry, Who
from enginehouse.wire.errors import error_response

HEAD = """# Errors

The router's own errors have the shape that OpenAI's SDKs expect, `/v1/messages` Anthropic's:

```json
{"error": {"message": "…", "type": "invalid_request_error", "param": null, "code": "model_not_found"}}
```

An engine's own 4xx and 5xx pass through with their status; their bodies are brought into this shape where they have
another (`verbatim_errors = true` leaves them alone). Every error carries the [headers](headers.md) of every answer.
"""

OUTCOMES = """
## Outcomes

Every request ends in exactly one of these. *Ended by* has two letters, as in access logs: who (`C` client, `E` engine,
`R` router) and when (`R` while the request was read, `Q` while a service was chosen, `C` while connecting, `H` while
waiting for the answer's head, `D` within the answer); what may come at any time has several. *Tried again* happens
before the first byte of an answer only. *Blames* counts against the service (`max_errors` in a row eject it).
"""

STREAMS = """
## Errors in the middle of a stream

Once an answer has begun no status can be sent any more. A stream that breaks gets an event that SDKs raise as an error,
and ends without `[DONE]`:

```text
data: {"error":{"message":"The engine broke off …","type":"server_error","param":null,"code":"bad_gateway"},"choices":…}
```

For the Responses API and `/v1/messages` it is `event: error`. Where no event can be written (the answer is no event
stream, or its length was announced) the connection is cut, so that a truncated answer never looks complete.
"""

REGISTRY = """
## The registry's errors

Same shape; `param` names the field at fault.

| status | code | when |
|---|---|---|
| 400 | | the body is no JSON object, or a field of it is wrong |
| 401 | `invalid_api_key` | writing without the bearer token of `token_file` |
| 404 | `service_not_found` | no service has this name; a babysitter then registers again |
| 409 | `lease_mismatch` | another instance holds this name: its lease is not the one given |
| 413 | `request_too_large` | the body is too large |
| 503 | `registry_full`, `journal_unavailable`, `too_many_watchers` | nothing was changed; try again |
"""

UNSENT: Final = {
    Outcome.ANSWERED: "The engine's answer was passed on whole, whatever its status.",
    Outcome.REJECTED: "It answered with one of `retry_statuses`; where nobody else can, that answer is passed on.",
    Outcome.OUTRUN: "Another attempt of the same request was answered first (`hedge_after`). Nobody is blamed.",
    Outcome.CLIENT_LEFT: "The client closed the connection; so was the engine's, within 50 ms. Nobody is blamed.",
    Outcome.CLIENT_STALLED: "The client read nothing for `send_timeout` and was cut.",
}


def errors_page() -> str:
    """The whole page."""
    lines = [HEAD, OUTCOMES, "| outcome | status | type, code | ended by | tried again | blames | says |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [_row(outcome) for outcome in Outcome]
    return "\n".join([*lines, STREAMS, REGISTRY])


def _row(outcome: Outcome) -> str:
    row = outcome.row
    code = f"`{row.type}`" + (f" `{row.code}`" if row.code else "") if row.type else ""
    status = (
        str(row.status) if row.status else "the engine's" if row.phase in (Phase.DONE, Phase.HEAD) else "sent already"
    )
    again = "" if row.retry is Retry.NO else row.retry.value
    ended = "" if row.who is Who.NOBODY else " ".join(f"`{row.who.value}{phase.value}`" for phase in _phases(outcome))
    cells = [f"`{outcome.value}`", status, code, ended, again, "yes" if row.blames else "", " ".join(_says(outcome))]
    return "| " + " | ".join(cells) + " |"


def _phases(outcome: Outcome) -> list[Phase]:
    """When it may come (`core.outcome.termination`)."""
    phase = outcome.row.phase
    if outcome not in AT_ANY_TIME:
        return [phase]
    return [Phase.CHOICE, Phase.HEAD, *([phase] if phase is Phase.BODY else [])]


def _says(outcome: Outcome) -> Iterator[str]:
    yield UNSENT.get(outcome) or json.loads(error_response(outcome).body)["error"]["message"]
    if outcome.row.retry_after is not None:
        yield f"(`Retry-After: {outcome.row.retry_after}`)"
    if outcome.row.should_retry is not None:
        yield f"(`x-should-retry: {str(outcome.row.should_retry).lower()}`)"
