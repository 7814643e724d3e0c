"""Answers the worker makes itself: errors, `/livez`, `/readyz`, and the router's own header lines.

Owns: putting an outcome's body, headers and framing together. May not live here: the texts and shapes of errors
(`wire.errors`), when which error is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.policy.choose import Choice, Refusal
from enginehouse.wire import errors
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.errors import Dialect, Unreadable
from enginehouse.wire.headers import EVERY, QUEUED, template
from enginehouse.wire.http1 import STATUS_LINES

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

_EVERY: Final[bytes] = template(EVERY)
_QUEUED: Final[bytes] = template((QUEUED,))


def our_lines(
    request_id: bytes,
    choice: Choice | None,
    attempts: int,
    overhead: float,
    reason: str = "",
    waited: float = 0.0,
    position: int = 0,
    warm: float = -1.0,
) -> bytes:
    """The header lines of ours that every answer carries. `overhead` in seconds; `reason` where nobody was chosen.

    `waited` in seconds and `position` (from 1) are those of a request that had to wait for a service. `warm`: the part
    of its prompt that was thought to be in the service's cache, negative where that was not looked at.
    """
    service = b"-"
    if choice is not None:
        service, reason = choice.service.name.encode(), choice.reason
        if warm >= 0:
            reason = f"{reason} {int(warm * 100)}%"
    lines = _EVERY % (request_id, service, attempts, waited * 1000, overhead * 1000, reason.encode() or b"-")
    return lines + _QUEUED % position if position else lines


def error(
    request: Request,
    dialect: Dialect,
    outcome: Outcome,
    message: str,
    param: str | None,
    ours: bytes,
    keep: bool,
    retry_after: int | None = None,
) -> bytes:
    """A whole error answer. `retry_after` in seconds, None for the outcome's own."""
    response = errors.error_response(outcome, message, param, dialect, retry_after=retry_after)
    lines = [b"%b: %b\r\n" % header for header in response.headers]
    if outcome is Outcome.METHOD_NOT_ALLOWED:
        lines.append(b"allow: GET, HEAD\r\n")
    if not keep:
        lines.append(b"connection: close\r\n")
    elif request.head.version == "1.0":
        lines.append(b"connection: keep-alive\r\n")
    lines.append(b"content-length: %d\r\n\r\n" % len(response.body))
    body = b"" if request.head.method == b"HEAD" else response.body
    return STATUS_LINES[response.status] + ours + b"".join(lines) + body


def body_size(answer: bytes) -> int:
    """Bytes of the body of a whole answer."""
    return len(answer) - answer.index(b"\r\n\r\n") - 4


def unreadable(request: Request, request_id: bytes, dialect: Dialect, problem: Unreadable, keep: bool) -> bytes:
    """The error for a request that no service was looked for."""
    ours = our_lines(request_id, None, 0, 0.0, problem.outcome.value)
    return error(request, dialect, problem.outcome, problem.message, problem.param, ours, keep)


def refusal_text(worker: Worker, refused: Refusal) -> str:
    """What is wrong with the model, and which models there are."""
    return errors.refusal_message(refused.outcome, refused.model, worker.table.served)


def failure_text(outcome: Outcome, service: str, why: str) -> str:
    """What the last engine tried did."""
    return errors.failure_message(outcome, service, why)


def plain(request: Request, request_id: bytes, status: int, text: bytes, keep: bool) -> bytes:
    """A short text of our own (`/livez`, `/readyz`)."""
    lines = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(text)
    lines += our_lines(request_id, None, 0, 0.0, "own")
    if not keep:
        lines += b"connection: close\r\n"
    elif request.head.version == "1.0":
        lines += b"connection: keep-alive\r\n"
    return STATUS_LINES[status] + lines + b"\r\n" + (b"" if request.head.method == b"HEAD" else text)


def switching(head: AnswerHead, ours: bytes) -> bytes:
    """The head of a protocol switch, as the engine sent it."""
    upgrade = b"connection: Upgrade\r\nupgrade: %b\r\n" % (head.upgrade or b"websocket")
    return head.lines + ours + upgrade + b"\r\n"


def accepting(request_id: bytes, key: bytes, protocol: bytes | None) -> bytes:
    """The head that accepts a WebSocket (RFC 6455 4.2.2) whose service is not known yet."""
    chosen = b"sec-websocket-protocol: %b\r\n" % protocol if protocol else b""
    lines = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %b\r\n%bx-request-id: %b\r\n\r\n"
    return STATUS_LINES[101] + lines % (key, chosen, request_id)
