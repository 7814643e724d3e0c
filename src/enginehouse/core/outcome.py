"""How an attempt or a request can end: a closed set with one table.

Owns: `Outcome` and, per outcome, the status, OpenAI type and code, whether it may be tried elsewhere, whether it
blames the service, who ended it and in which phase. Error bodies, retry, health, counters and the reference page
all read this table. May not live here: making bodies (`wire.errors`) or deciding (`machines.exchange`).
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Who(enum.Enum):
    """Who ended it. The letter is the first of the termination code."""

    NOBODY = "-"
    CLIENT = "C"
    ENGINE = "E"
    ROUTER = "R"


class Phase(enum.Enum):
    """When it ended. The letter is the second of the termination code."""

    DONE = "-"
    REQUEST = "R"
    CHOICE = "Q"
    CONNECT = "C"
    HEAD = "H"
    BODY = "D"


class Retry(enum.Enum):
    """May the router try again, before a byte reached the client?"""

    NO = "no"
    ELSEWHERE = "another service"
    FRESH = "on a fresh connection to the same service if the connection was reused, else once on another service"


class Row(NamedTuple):
    """One line of the table."""

    status: int
    """0: the engine's own status is passed on, or no status can be sent any more."""
    type: str
    code: str | None
    who: Who
    phase: Phase
    retry: Retry = Retry.NO
    blames: bool = False
    should_retry: bool | None = None
    """Value of `x-should-retry`; None sends none."""
    retry_after: int | None = None
    """Seconds for `Retry-After`; None sends none."""


BAD = "invalid_request_error"
SERVER = "server_error"
BUSY = "service_unavailable_error"
_C, _E, _R = Who.CLIENT, Who.ENGINE, Who.ROUTER


@enum.unique
class Outcome(enum.Enum):
    """Every way a request or one attempt of it can end. The value is its stable name in logs and metrics."""

    ANSWERED = "answered"
    """The engine's answer was passed on whole, whatever its status."""
    # the client's request is at fault
    BAD_REQUEST = "bad_request"
    BAD_JSON = "bad_json"
    BAD_MODEL = "bad_model"
    MODEL_MISSING = "model_missing"
    PATH_NOT_NORMAL = "path_not_normal"
    PATH_DENIED = "path_denied"
    PATH_UNKNOWN = "path_unknown"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HEAD_TOO_LARGE = "head_too_large"
    BODY_TOO_LARGE = "body_too_large"
    BODY_ENCODED = "body_encoded"
    EXPECTATION_FAILED = "expectation_failed"
    CLIENT_TOO_SLOW = "client_too_slow"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_UNKNOWN_404 = "model_unknown_404"
    # the house cannot serve it now
    NOT_SYNCED = "not_synced"
    NO_SERVICE = "no_service"
    NO_SERVICE_FOR_MODEL = "no_service_for_model"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    BODIES_FULL = "bodies_full"
    CONNECTIONS_FULL = "connections_full"
    STOPPING = "stopping"
    # the engine, before a byte of its answer
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    BROKE_BEFORE_HEAD = "broke_before_head"
    BAD_RESPONSE = "bad_response"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    REJECTED = "rejected"
    """The engine answered that it cannot take the request now (`retry_statuses`)."""
    UNFIT = "unfit"
    """It can do nothing with this very request: it answered 404 to its model, does not go on with an answer, or refuses
    a WebSocket's handshake. That is no failure, and says nothing about how much it has to do."""
    POISONOUS = "poisonous"
    """The request broke as many services as one may: it is not tried on another one, and none of them is blamed."""
    OUTRUN = "outrun"
    """Another attempt of the same request was answered first (hedging)."""
    # the engine, within its answer
    BROKE_MIDWAY = "broke_midway"
    IDLE_TIMEOUT = "idle_timeout"
    # the client, within the exchange
    CLIENT_LEFT = "client_left"
    CLIENT_STALLED = "client_stalled"
    # ourselves
    CUT_AT_STOP = "cut_at_stop"
    BUG = "bug"

    row: Row
    """This outcome's line of the table."""
    termination: str
    """Two letters: who ended it, in which phase ("--" for a whole answer). Of a request see `termination()`."""


TABLE: dict[Outcome, Row] = {
    Outcome.ANSWERED: Row(0, "", None, Who.NOBODY, Phase.DONE),
    Outcome.BAD_REQUEST: Row(400, BAD, None, _C, Phase.REQUEST),
    Outcome.BAD_JSON: Row(400, BAD, None, _C, Phase.REQUEST),
    Outcome.BAD_MODEL: Row(400, BAD, None, _C, Phase.REQUEST),
    Outcome.MODEL_MISSING: Row(400, BAD, None, _C, Phase.REQUEST),
    Outcome.PATH_NOT_NORMAL: Row(400, BAD, "path_not_normal", _C, Phase.REQUEST),
    Outcome.PATH_DENIED: Row(403, BAD, "path_denied", _C, Phase.REQUEST),
    Outcome.PATH_UNKNOWN: Row(404, BAD, "path_unknown", _C, Phase.REQUEST),
    Outcome.METHOD_NOT_ALLOWED: Row(405, BAD, "method_not_allowed", _C, Phase.REQUEST),
    Outcome.HEAD_TOO_LARGE: Row(431, BAD, "head_too_large", _C, Phase.REQUEST),
    Outcome.BODY_TOO_LARGE: Row(413, BAD, "request_too_large", _C, Phase.REQUEST),
    Outcome.BODY_ENCODED: Row(415, BAD, "unsupported_content_encoding", _C, Phase.REQUEST),
    Outcome.EXPECTATION_FAILED: Row(417, BAD, "expectation_failed", _C, Phase.REQUEST),
    Outcome.CLIENT_TOO_SLOW: Row(408, BAD, "request_timeout", _C, Phase.REQUEST),
    Outcome.MODEL_UNKNOWN: Row(503, BAD, "model_not_found", _R, Phase.CHOICE, should_retry=False),
    Outcome.MODEL_UNKNOWN_404: Row(404, BAD, "model_not_found", _R, Phase.CHOICE, should_retry=False),
    Outcome.NOT_SYNCED: Row(503, BUSY, "server_is_overloaded", _R, Phase.CHOICE, retry_after=1),
    Outcome.NO_SERVICE: Row(503, BUSY, "server_is_overloaded", _R, Phase.CHOICE, retry_after=5),
    Outcome.NO_SERVICE_FOR_MODEL: Row(503, BUSY, "server_is_overloaded", _R, Phase.CHOICE, retry_after=5),
    Outcome.QUEUE_FULL: Row(503, BUSY, "server_is_overloaded", _R, Phase.CHOICE, retry_after=5),
    Outcome.QUEUE_TIMEOUT: Row(503, BUSY, "server_is_overloaded", _R, Phase.CHOICE, retry_after=5),
    Outcome.BODIES_FULL: Row(503, BUSY, "server_is_overloaded", _R, Phase.REQUEST, retry_after=1),
    Outcome.CONNECTIONS_FULL: Row(503, BUSY, "server_is_overloaded", _R, Phase.REQUEST, retry_after=1),
    Outcome.STOPPING: Row(503, BUSY, "server_is_overloaded", _R, Phase.CHOICE, retry_after=1),
    Outcome.CONNECT_FAILED: Row(502, SERVER, "bad_gateway", _E, Phase.CONNECT, Retry.ELSEWHERE, blames=True),
    Outcome.CONNECT_TIMEOUT: Row(504, SERVER, "gateway_timeout", _E, Phase.CONNECT, Retry.ELSEWHERE, blames=True),
    Outcome.BROKE_BEFORE_HEAD: Row(502, SERVER, "bad_gateway", _E, Phase.HEAD, Retry.FRESH, blames=True),
    Outcome.BAD_RESPONSE: Row(502, SERVER, "bad_gateway", _E, Phase.HEAD, Retry.ELSEWHERE, blames=True),
    Outcome.FIRST_BYTE_TIMEOUT: Row(504, SERVER, "gateway_timeout", _E, Phase.HEAD, blames=True),
    Outcome.REJECTED: Row(0, "", None, _E, Phase.HEAD, Retry.ELSEWHERE),
    Outcome.UNFIT: Row(502, SERVER, "bad_gateway", _E, Phase.HEAD, Retry.ELSEWHERE),
    Outcome.POISONOUS: Row(502, SERVER, "bad_gateway", _E, Phase.HEAD, should_retry=False),
    Outcome.OUTRUN: Row(0, "", None, _R, Phase.HEAD),
    Outcome.BROKE_MIDWAY: Row(0, SERVER, "bad_gateway", _E, Phase.BODY, blames=True),
    Outcome.IDLE_TIMEOUT: Row(0, SERVER, "gateway_timeout", _E, Phase.BODY, blames=True),
    Outcome.CLIENT_LEFT: Row(0, BAD, "client_closed_request", _C, Phase.BODY),
    Outcome.CLIENT_STALLED: Row(0, BAD, "client_stalled", _C, Phase.BODY),
    Outcome.CUT_AT_STOP: Row(0, BUSY, "server_is_overloaded", _R, Phase.BODY),
    Outcome.BUG: Row(500, SERVER, "internal_error", _R, Phase.BODY),
}

for _outcome, _row in TABLE.items():
    _outcome.row = _row
    _outcome.termination = _row.who.value + _row.phase.value

#: What may come at any time; the table has the phase in which it comes last.
AT_ANY_TIME = frozenset((Outcome.CLIENT_LEFT, Outcome.STOPPING, Outcome.BUG))


def termination(outcome: Outcome, attempts: int, answering: bool) -> str:
    """Two letters of a request that is over: who ended it, and in which phase.

    `attempts` were made at services until then; `answering`: a part of an answer had come.
    """
    if outcome not in AT_ANY_TIME:
        return outcome.termination
    phase = Phase.BODY if answering else Phase.HEAD if attempts else Phase.CHOICE
    return outcome.row.who.value + phase.value
