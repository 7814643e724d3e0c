"""What every request to the registry passes: an id, a bounded body, a token where something is written, a true error.

Owns: `Gate` (the outermost application), reading JSON, replies and the shape of errors. May not live here: paths and
what they do (`api`), parsing of HTTP (`server`).
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from enginehouse.core.record import RecordError
from enginehouse.core.units import KIB, MAX_RECORD, MIB
from enginehouse.registry.leases import LeaseMismatch, StoreError, UnknownService
from enginehouse.registry.store import Full, Unavailable
from enginehouse.wire.http1 import head_problem

#: Bytes of a request's head.
MAX_HEAD = 64 * KIB
#: Bytes of a request's body: a record of the largest size, written with blanks.
MAX_BODY = MAX_RECORD + 64 * KIB
#: Bytes of a body that is too large that are read all the same, so that its sender gets to read the refusal.
MAX_DISCARDED = 16 * MIB
BAD_REQUEST = "invalid_request_error"
BUSY = "service_unavailable_error"
SERVER_ERROR = "server_error"

log = logging.getLogger("enginehouse.registry")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class ApiError(Exception):
    """A refusal in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = BAD_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "type": kind, "param": param, "code": code}
        self.headers = headers or {}


def as_api_error(error: Exception) -> ApiError:
    """What to answer to an exception; one that is not expected is a bug, about which nothing is told."""
    match error:
        case ApiError():
            return error
        case RecordError():
            return ApiError(400, str(error), param=error.field)
        case UnknownService():
            return ApiError(404, str(error), code="service_not_found")
        case LeaseMismatch():
            return ApiError(409, str(error), param="lease", code="lease_mismatch")
        case Full():
            return ApiError(503, str(error), kind=BUSY, code="registry_full")
        case Unavailable():
            return ApiError(503, str(error), kind=BUSY, code="journal_unavailable", headers={"retry-after": "1"})
        case StoreError():
            return ApiError(503, str(error), kind=BUSY)
        case HTTPException():
            headers = dict(error.headers or {})
            return ApiError(error.status_code, f"{error.detail}: see /openapi.json for what there is", headers=headers)
    return ApiError(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase, kind=SERVER_ERROR)


async def answer_error(_: Request, error: Exception) -> Response:
    """The handler of all exceptions."""
    return refusal(as_api_error(error))


HANDLERS: dict[Any, Any] = dict.fromkeys((HTTPException, ApiError, RecordError, StoreError, Exception), answer_error)


def reply(data: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(data), status, headers, "application/json")


def refusal(error: ApiError) -> Response:
    """The answer to a refused request."""
    return reply({"error": error.body}, error.status, error.headers)


async def read_object(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The body, which has to be a JSON object; `optional`: an empty one counts as `{}`. Raises `ApiError`."""
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY:
            body += chunk
        elif size > MAX_DISCARDED:
            break
    if size > MAX_BODY:
        message = f"The body is larger than {MAX_BODY} bytes"
        raise ApiError(413, message, code="request_too_large", headers={"connection": "close"})
    if optional and not body:
        return {}
    try:
        data = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(400, "The body must be a JSON object")
    return data


def text_field(data: dict[str, Any], field: str, pattern: re.Pattern[str], what: str) -> str:
    """An optional string of the body; "" where it is missing or null. Raises `RecordError`."""
    value = data.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise RecordError(field, f"must be {what}")
    return value


def check_token(request: Request, token: str) -> None:
    """Raise 401 unless the request carries the bearer token, where one is configured."""
    if not token:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not same:
        message = "This registry asks writers for a bearer token: send `Authorization: Bearer TOKEN`"
        raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


class Gate:
    """Around the application: refuses ambiguous framing, gives every request an id, keeps bugs to their request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = (given if _REQUEST_ID.fullmatch(given) else new_request_id()).encode()
        ended = False

        async def send_named(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            elif not message.get("more_body", False):
                ended = True
            await send(message)

        try:
            if refused := head_error(scope):
                await refusal(refused)(scope, receive, send_named)
            else:
                await self._app(scope, receive, send_named)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception:
            log.exception("a bug: %s %s failed", scope["method"], scope["path"])
            if not ended:
                raise  # the server below closes the connection: an answer that ends in the middle must look like it


def new_request_id() -> str:
    """An id for a request that brought none."""
    return secrets.token_hex(16)


def head_error(scope: Scope) -> ApiError | None:
    """The refusal of a head that is too large, or that two readers could read differently (RFC 9112, 3.2, 6.1)."""
    values: dict[bytes, list[bytes]] = {}
    size = len(scope["raw_path"]) + len(scope["query_string"])
    for name, value in scope["headers"]:
        values.setdefault(name, []).append(value)
        size += len(name) + len(value)
    if size > MAX_HEAD:
        message = f"The head of the request is larger than {MAX_HEAD} bytes"
        return ApiError(431, message, code="head_too_large", headers={"connection": "close"})
    codings = values.get(b"transfer-encoding", [])
    problem = head_problem(scope["http_version"], values.get(b"host", []), codings)
    if not problem and codings and b"content-length" in values:
        problem = "Transfer-Encoding together with Content-Length: send one of them."
    return ApiError(400, problem, headers={"connection": "close"}) if problem else None
