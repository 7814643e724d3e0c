"""What is told of a request that is over (`ended`): of one that was sent on, and of one that was refused before.

Owns: putting the fields of `wire.access_line.Record` together. May not live here: when a request is over (`driver`,
`client_conn`), what a line looks like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.wire.usage import Usage

if TYPE_CHECKING:
    from enginehouse.data.plan import Plan
    from enginehouse.wire.access_line import Entry


def entry(
    request: Request,
    plan: Plan,
    times: tuple[float, float, float],
    service: str,
    attempts: int,
    outcome: Outcome,
    status: int,
    sent: int,
    stream: bool,
    usage: Usage | None,
    warm: float,
    reason: str,
    overhead: float,
) -> Entry:
    """A request for which a service was looked for. `times`: ended, first byte (0.0: none), monotonic
    seconds; and for how many it waited."""
    head, prompt = request.head, plan.ask.prompt
    return (
        request.begun,
        times[0],
        times[1],
        times[2],
        plan.request_id,
        request.peer,
        head.method,
        head.target,
        plan.ask.model,
        service,
        status,
        outcome,
        attempts,
        len(request.body),
        sent,
        stream,
        usage,
        warm,
        reason,
        head.authorization or head.api_key,
        overhead,
        plan.own,
        prompt.size if prompt is not None else 0,
        request.trace,
    )


def refused(request: Request, request_id: bytes, ended: float, outcome: Outcome, status: int, sent: int) -> Entry:
    """A request that was answered by the router alone; `sent` bytes of body."""
    head = request.head
    begun = request.begun or ended
    return (
        begun,
        ended,
        0.0,
        0.0,
        request_id,
        request.peer,
        head.method,
        head.target,
        "",
        "",
        status,
        outcome,
        0,
        len(request.body),
        sent,
        False,
        None,
        -1.0,
        "",
        head.authorization or head.api_key,
        -1.0,
        False,
        0,
        request.trace,
    )
