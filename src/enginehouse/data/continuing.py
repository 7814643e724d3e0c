"""Going on with a broken stream on another service: when it is possible, and with which request.

Owns: deciding which streams are kept for that, and `Continuation`. May not live here: the reading and writing of
streams and bodies (`wire.resume`, `wire.continued`), the attempt itself (`attempt`).
"""

from __future__ import annotations

from enginehouse.core.ask import Ask
from enginehouse.core.config.router import RouterConfig
from enginehouse.data.plan import Plan
from enginehouse.data.relay import Relay
from enginehouse.policy.table import Table
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.continued import continued_body
from enginehouse.wire.resume import Kind, Partial, kind_of, read_partial
from enginehouse.wire.resumed import closing


class Continuation:
    """What the client has of a stream, and the request that gets the rest of it."""

    __slots__ = ("closing", "kind", "partial", "plan")

    def __init__(self, kind: Kind, partial: Partial, plan: Plan, closing: bytes) -> None:
        self.kind = kind
        self.partial = partial
        self.plan = plan
        """As the next service gets it."""
        self.closing = closing
        """All that is missing, where no service has to be asked."""

    def unfit(self, table: Table, ask: Ask) -> tuple[str, ...]:
        """Names of the services that cannot go on with an answer; where there is no text of it yet, all can."""
        entry = table.models.get(ask.model) if ask.model else table.everyone
        if entry is None or not self.partial.known:
            return ()
        return tuple([service.name for service in entry.services if not service.continues])


def keeps(config: RouterConfig, plan: Plan, head: AnswerHead) -> bool:
    """Is this a stream that another service might have to go on with?"""
    return (
        config.failover
        and head.status == 200
        and not head.encoded
        and not plan.own
        and plan.request.head.method == b"POST"
        and kind_of(plan.route.path) is not None
    )


def continuation(asked: Plan, relay: Relay) -> Continuation | None:
    """How to go on with the stream that broke off in `relay`, the answer to the client's request `asked`; None where
    that is not possible exactly."""
    relay.forget_half()
    kind = kind_of(asked.route.path)
    raw = relay.replay.raw() if relay.replay is not None else None
    if kind is None or raw is None:
        return None
    partial = read_partial(kind, asked.body, raw)
    if partial is None:
        return None
    missing = closing(kind, partial)
    body = b"" if missing else continued_body(kind, asked.body, partial)
    return Continuation(kind, partial, asked.with_body(body), missing)
