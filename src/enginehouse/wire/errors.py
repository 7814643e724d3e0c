"""Error answers: one outcome in the shape that the client's SDK expects, and engines' errors brought into it.

Owns the three dialects, the texts (each says what to do next), `error_response`, `stream_break` and `normalise`.
May not live here: which status or code an outcome has (`core.outcome`), and when an error is sent.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from enginehouse.core.outcome import Outcome
from enginehouse.wire.headers import RETRY_AFTER, SHOULD_RETRY


@enum.unique
class Dialect(enum.Enum):
    """How the client of a path expects errors."""

    OPENAI = "openai"
    RESPONSES = "responses"
    """Complete answers as OPENAI; within a stream a named event."""
    ANTHROPIC = "anthropic"


NOT_JSON = (
    'We could not parse the JSON body of your request. It must be one JSON object, in UTF-8, such as {"model": "…", …}.'
)


class Unreadable(Exception):
    """A request that cannot be understood: the outcome, the text for the client and the parameter at fault."""

    def __init__(self, outcome: Outcome, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.param = param


class Response(NamedTuple):
    """A whole answer, less what the connection adds (content-length, connection, the `x-` lines of every answer)."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


_TEXTS: dict[Outcome, str] = {
    Outcome.BAD_REQUEST: "The request could not be understood: check that it is a complete HTTP/1.1 request.",
    Outcome.BAD_JSON: NOT_JSON,
    Outcome.BAD_MODEL: "`model` must be given once, as a string.",
    Outcome.MODEL_MISSING: "you must provide a model parameter",
    Outcome.PATH_NOT_NORMAL: "The path is not in its normal form: write it without `//`, `.`, `..`, backslashes and "
    "needless percent-encoding.",
    Outcome.PATH_DENIED: "This is an administrative path of the engines, which the router does not pass on. "
    "The operator can open it with `open_paths`.",
    Outcome.PATH_UNKNOWN: "The router passes known inference paths on only (`strict_paths`). "
    "GET /v1/models lists the models; /v1/chat/completions is where to ask them.",
    Outcome.METHOD_NOT_ALLOWED: "This method is not allowed here.",
    Outcome.HEAD_TOO_LARGE: "The request's head is larger than the router accepts (`max_head`).",
    Outcome.BODY_TOO_LARGE: "The request's body is larger than the router accepts (`max_body`).",
    Outcome.BODY_ENCODED: "Send the body without Content-Encoding: the router has to read the model in it "
    "(`encoded_bodies` passes such bodies on unread).",
    Outcome.EXPECTATION_FAILED: "The only expectation the router knows is `Expect: 100-continue`.",
    Outcome.CLIENT_TOO_SLOW: "The request did not arrive in time; send it again.",
    Outcome.MODEL_UNKNOWN: "No healthy services available for this model; GET /v1/models lists those that exist.",
    Outcome.MODEL_UNKNOWN_404: "No healthy services available for this model; GET /v1/models lists those that exist.",
    Outcome.NO_SERVICE_FOR_MODEL: "No healthy services available for this model; try again in some seconds.",
    Outcome.NOT_SYNCED: "The router does not know yet what all of its services serve; try again in a second.",
    Outcome.NO_SERVICE: "No healthy services available; GET /services shows what the router knows of them.",
    Outcome.QUEUE_FULL: "All services of this model are busy, and as many requests as may wait already (`queue_size`).",
    Outcome.QUEUE_TIMEOUT: "No service of this model became free in time (`queue_timeout`).",
    Outcome.BODIES_FULL: "The router holds as many request bodies as it may (`body_budget`); try again in a second.",
    Outcome.CONNECTIONS_FULL: "The router has as many connections as it may (`max_connections`); "
    "try again in a second.",
    Outcome.STOPPING: "The router is stopping; try again in a second, on a new connection.",
    Outcome.CONNECT_FAILED: "No connection to the engine could be made; try again.",
    Outcome.CONNECT_TIMEOUT: "No connection to the engine could be made in time; try again.",
    Outcome.BROKE_BEFORE_HEAD: "The engine closed the connection without an answer; try again.",
    Outcome.BAD_RESPONSE: "The engine's answer was not valid HTTP.",
    Outcome.UNFIT: "The engines of this model cannot do what was asked.",
    Outcome.POISONOUS: "Engines broke off twice while they worked on this request, so it is not tried again: "
    "something in it may be the cause.",
    Outcome.FIRST_BYTE_TIMEOUT: "The engine did not answer in time (`first_byte_timeout`).",
    Outcome.BROKE_MIDWAY: "The engine broke off in the middle of this answer: it is incomplete. "
    "Send the request again.",
    Outcome.IDLE_TIMEOUT: "The engine fell silent in the middle of this answer (`idle_timeout`): it is incomplete. "
    "Send the request again.",
    Outcome.CUT_AT_STOP: "The router stopped in the middle of this answer: it is incomplete. Send the request again.",
    Outcome.BUG: "The router failed; this is a bug. Please report it with the `x-request-id` of this answer.",
}

#: Anthropic's error types by status; others by class.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

#: Models named in the refusal of an unknown one.
MAX_LISTED = 20
_MAX_SHOWN = 200


def error_response(
    outcome: Outcome,
    message: str = "",
    param: str | None = None,
    dialect: Dialect = Dialect.OPENAI,
    extra_headers: Iterable[tuple[bytes, bytes]] = (),
    retry_after: int | None = None,
) -> Response:
    """The answer for `outcome`. `message` "" takes the outcome's own text, `retry_after` None its own seconds."""
    row = outcome.row
    status = row.status or 502
    headers = [(b"content-type", b"application/json")]
    if row.retry_after is not None:
        headers.append((RETRY_AFTER.name, b"%d" % (row.retry_after if retry_after is None else retry_after)))
    if row.should_retry is not None:
        headers.append((SHOULD_RETRY.name, b"true" if row.should_retry else b"false"))
    headers += extra_headers
    text = text_for(outcome, message)
    if dialect is Dialect.ANTHROPIC:
        kind = "not_found_error" if row.code == "model_not_found" else _anthropic_type(status)
        body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": text}})
    else:
        body = msgspec.json.encode({"error": {"message": text, "type": row.type, "param": param, "code": row.code}})
    return Response(status, headers, body)


def _anthropic_type(status: int) -> str:
    return _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def text_for(outcome: Outcome, message: str = "") -> str:
    """What the client is told: `message`, where there is none the outcome's own text."""
    return message or _TEXTS.get(outcome, outcome.value)


def refusal_message(outcome: Outcome, model: str, served: Sequence[str]) -> str:
    """What is wrong with the model asked for, in the inherited words, and what to do. "" where it is not the model."""
    if outcome in (Outcome.MODEL_UNKNOWN, Outcome.MODEL_UNKNOWN_404):
        here = ", ".join(shown(name) for name in served[:MAX_LISTED])
        more = f" and {len(served) - MAX_LISTED} more" if len(served) > MAX_LISTED else ""
        models = f"The models here are: {here}{more}." if served else "No models are served here now."
        return f"No healthy services available for model '{shown(model)}'. {models}"
    if outcome is Outcome.NO_SERVICE_FOR_MODEL:
        return (
            f"No healthy services available for model '{shown(model)}'. "
            "It is known here, but nobody can serve it now; try again in some seconds."
        )
    if outcome is Outcome.NOT_SYNCED and model:
        return f"No healthy services available for model '{shown(model)}'. {_TEXTS[outcome]}"
    return ""


def failure_message(outcome: Outcome, service: str, why: str) -> str:
    """What the engine tried last did: the outcome's own text, the service and the reason in few words."""
    text = _TEXTS.get(outcome, outcome.value)
    detail = ", ".join(part for part in (f"service {shown(service)}" if service else "", shown(why)) if part)
    return f"{text} ({detail})" if detail else text


def shown(name: str) -> str:
    """A name from outside as it may be shown: printable, bounded."""
    text = name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name[: _MAX_SHOWN + 1])
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def stream_break(outcome: Outcome, dialect: Dialect) -> bytes:
    """The event that says within a stream that it broke: never a clean end, which SDKs take for a whole answer."""
    row = outcome.row
    message = _TEXTS.get(outcome, outcome.value)
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(
            {"type": "error", "error": {"type": "api_error", "message": message}}
        )
    error = {"message": message, "type": row.type, "param": None, "code": row.code}
    if dialect is Dialect.RESPONSES:
        # The event's own members are those of the Responses API; `error` is what the openai SDK raises on.
        event = {"type": "error", "code": row.code, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(event | {"error": error})
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    return b"data: %b\n\n" % msgspec.json.encode({"error": error, "choices": [choice]})


#: Characters of an engine's text that are passed on.
_MAX_TEXT = 4000


def normalise(status: int, body: bytes, dialect: Dialect) -> bytes | None:
    """An engine's error body in the client's dialect, or None where it is already. Nothing is added to its text."""
    try:
        found: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = body.decode("utf-8", "replace").strip()
    if dialect is Dialect.ANTHROPIC:
        return _to_anthropic(status, found)
    if isinstance(found, dict) and isinstance(found.get("error"), dict) and _is_openai(found["error"]):
        return None
    return msgspec.json.encode({"error": _openai_error(status, _details(found))})


def _to_anthropic(status: int, found: object) -> bytes | None:
    details = _details(found)
    if isinstance(found, dict) and found.get("type") == "error" and isinstance(found.get("error"), dict):
        if isinstance(details.get("type"), str) and isinstance(details.get("message"), str):
            return None
    error = {"type": _anthropic_type(status), "message": _message(status, details)}
    return msgspec.json.encode({"type": "error", "error": error})


def _is_openai(error: dict[str, object]) -> bool:
    return (
        isinstance(error.get("message"), str)
        and isinstance(error.get("type"), str)
        and isinstance(error.get("param", 0), str | None)
        and isinstance(error.get("code", 0), str | None)
    )


def _details(found: object) -> dict[str, object]:
    """The members of an error in any of the shapes that engines use."""
    if not isinstance(found, dict):
        return {"message": found}
    inner = found.get("error")
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str):
        return {"message": inner}
    if "message" not in found and "detail" in found:  # FastAPI
        return {"message": found["detail"]}
    return {name: value for name, value in found.items() if name != "object"}


def _message(status: int, details: dict[str, object]) -> str:
    message = details.get("message")
    if isinstance(message, list) and message and all(isinstance(item, dict) and "msg" in item for item in message):
        message = "; ".join(f"{_place(item.get('loc'))}{item['msg']}" for item in message)
    if not isinstance(message, str):
        message = "" if message is None and not details else msgspec.json.encode(message or details).decode()
    return message[:_MAX_TEXT] or f"The engine answered {status} and said no more."


def _place(loc: object) -> str:
    """Where FastAPI found something wrong: `["body", "model"]` -> "body.model: "."""
    return ".".join(map(str, loc)) + ": " if isinstance(loc, list) and loc else ""


def _openai_error(status: int, details: dict[str, object]) -> dict[str, object]:
    """The members of the envelope; what else the engine said in it stays (llama.cpp: `n_prompt_tokens`)."""
    kind, code, param = details.get("type"), details.get("code"), details.get("param")
    return details | {
        "message": _message(status, details),
        "type": kind if isinstance(kind, str) else _openai_type(status),
        "param": param if isinstance(param, str) else None,
        "code": code if isinstance(code, str) else None if code is None or isinstance(code, bool) else str(code),
    }


def _openai_type(status: int) -> str:
    if status == 429:
        return "rate_limit_exceeded"
    return "invalid_request_error" if status < 500 else "server_error"
