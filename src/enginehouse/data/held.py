"""An engine's error that waits for its body: to be tried elsewhere, or to be put into the shape the client knows.

Owns: which errors are held, the body while it comes, the final head and body. May not live here: what becomes of the
request (`driver`), the shapes (`wire.errors`).
"""

from __future__ import annotations

from typing import Final

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.wire import errors
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.errors import Dialect

#: A larger error is passed on as it is.
MAX_BODY: Final = 64 * 1024
NOT_FOUND: Final = 404


def may_hold(config: RouterConfig, method: bytes, head: AnswerHead, length: int | None) -> bool:
    """Whether this answer is an error that can wait for its body."""
    return (
        head.status >= 400
        and (head.status in config.retry_statuses or not config.verbatim_errors)
        and method != b"HEAD"
        and not head.encoded
        and not head.is_event_stream
        and (length is None or length <= MAX_BODY)
    )


def elsewhere(config: RouterConfig, status: int, model: str) -> Outcome | None:
    """How the attempt ended, if another service may do better; None where the error is the answer.

    This one cannot now, or it may have lost the model that the house knows it to have.
    """
    if status in config.retry_statuses:
        return Outcome.REJECTED
    return Outcome.UNFIT if status == NOT_FOUND and model else None


class HeldError:
    """One error, until its body is whole."""

    __slots__ = ("_body", "head")

    def __init__(self, head: AnswerHead) -> None:
        self.head = head
        self._body = bytearray()

    def add(self, data: bytes) -> bool:
        """Some bytes of the body. False when it is too large to be held any longer."""
        self._body += data
        return len(self._body) <= MAX_BODY

    @property
    def body(self) -> bytes:
        """What has come."""
        return bytes(self._body)

    def in_shape(self, dialect: Dialect) -> tuple[AnswerHead, bytes]:
        """The whole error as the client's SDK expects it."""
        body = self.body
        better = errors.normalise(self.head.status, body, dialect)
        return (self.head, body) if better is None else (self.head.with_json(), better)
