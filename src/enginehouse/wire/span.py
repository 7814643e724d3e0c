"""What the span of a request says: its name, attributes and events, by OpenTelemetry's conventions for GenAI.

Owns these names, the old ones beside the new ones, and `Batch`, the form in which a worker hands requests over. May not
live here: which requests are traced (`data.traces`), OpenTelemetry's own classes and exporting (`control.traces`).

Names: OpenTelemetry semantic conventions for GenAI, span `gen_ai.client.inference` (in development, 2026-10), and those
of 1.27 which most dashboards still read; HTTP and errors: 1.37. Nothing of a prompt or an answer, no query, no key.
"""

from __future__ import annotations

from types import GenericAlias
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from enginehouse.core.outcome import Outcome, termination
from enginehouse.wire.access_line import MAX_NAME, Entry, Record, path_of
from enginehouse.wire.trace_context import Try
from enginehouse.wire.usage import Usage

Attributes = dict[str, str | int | float | bool]
#: The event of an attempt that is over.
ATTEMPT: Final = "enginehouse.attempt"

_CHAT: Final = "chat"
_TEXT: Final = "text_completion"
_EMBEDDINGS: Final = "embeddings"
_REALTIME: Final = "/realtime"
#: Where none of OpenTelemetry's own words fits, the last part of the path says it.
_OTHERS: Final = (
    "/rerank",
    "/v2/rerank",
    "/reranking",
    "/score",
    "/pooling",
    "/classify",
    "/tokenize",
    "/detokenize",
    "/moderations",
    _REALTIME,
    "/audio/transcriptions",
    "/audio/translations",
    "/audio/speech",
    "/images/generations",
    "/images/edits",
    "/videos",
)
#: What is done at a path, less its `/v1`.
_OPERATIONS: Final = {
    "/chat/completions": _CHAT,
    "/responses": _CHAT,
    "/messages": _CHAT,
    "/api/chat": _CHAT,
    "/completions": _TEXT,
    "/completion": _TEXT,
    "/infill": _TEXT,
    "/generate": _TEXT,
    "/api/generate": _TEXT,
    "/embeddings": _EMBEDDINGS,
    "/embedding": _EMBEDDINGS,
    "/api/embed": _EMBEDDINGS,
    "/api/embeddings": _EMBEDDINGS,
    **{path: path.rpartition("/")[2] for path in _OTHERS},
}


class Batch(NamedTuple):
    """Requests that a worker traced since it reported last."""

    dropped: int
    """How many there was no room for."""
    entries: list[Entry]


# The types of an entry; those of `Usage`, which may be compiled, cannot be read while the program runs.
_TYPES: Final = get_type_hints(Record) | {"usage": tuple[int, int, int | None] | None}
_ENTRIES: Final[Any] = GenericAlias(list, (GenericAlias(tuple, tuple(_TYPES.values())),))
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[Any] = msgspec.msgpack.Decoder(GenericAlias(tuple, (int, _ENTRIES)))


def encode_batch(batch: Batch) -> bytes:
    """A batch as it goes to control."""
    return _ENCODER.encode(batch)


def decode_batch(data: bytes) -> tuple[int, list[Record]]:
    """(how many were dropped, the requests). Raises `msgspec.DecodeError` for what is no batch."""
    dropped, entries = _DECODER.decode(data)
    records = [Record(*entry) for entry in entries]
    return dropped, [told._replace(usage=Usage(*told.usage)) if told.usage is not None else told for told in records]


def name_of(record: Record) -> str:
    """`{operation} {model}`; the method alone where the path is no known one."""
    operation = _operation(record)
    if not operation:
        return record.method.decode("latin-1")
    return f"{operation} {record.model[:MAX_NAME]}" if record.model else operation


def error_type(record: Record) -> str:
    """Why it is no success: the outcome's name, or the status of an engine's error; "" for a success."""
    if record.outcome is not Outcome.ANSWERED:
        return str(record.outcome.value)
    return str(record.status) if record.status >= 400 else ""


def attributes_of(record: Record, address: tuple[str, int] | None) -> Attributes:
    """Everything that is known and not personal. `address`: host and port of the engine."""
    found = _genai(record)
    if address is not None:
        found["server.address"], found["server.port"] = address
    found["http.request.method"] = record.method.decode("latin-1")
    found["url.path"] = path_of(record.target)
    if record.status:
        found["http.response.status_code"] = record.status
    if error := error_type(record):
        found["error.type"] = error
    found["enginehouse.request_id"] = record.id.decode("latin-1")
    if record.service:
        found["enginehouse.service"] = record.service
    if record.reason:
        found["enginehouse.reason"] = record.reason
    found["enginehouse.outcome"] = record.outcome.value
    found["enginehouse.termination"] = termination(record.outcome, record.attempts, record.first_byte > 0)
    found["enginehouse.attempts"] = record.attempts
    found["enginehouse.queue_seconds"] = record.queued
    if record.overhead >= 0:
        found["enginehouse.overhead_seconds"] = record.overhead
    if record.warm >= 0:
        found["enginehouse.warm"] = record.warm
    return found


def _genai(record: Record) -> Attributes:
    found: Attributes = {}
    operation = _operation(record)
    if operation:
        # Whose API is spoken, which may be another's than whose engine answers.
        provider = "anthropic" if _path(record) == "/messages" else "openai"
        found |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.system": provider,
        }
    if record.model:
        found["gen_ai.request.model"] = record.model[:MAX_NAME]
    if record.stream:
        found["gen_ai.request.stream"] = True
        if record.first_byte:
            found["gen_ai.response.time_to_first_chunk"] = record.first_byte - record.begun
    usage = record.usage
    if usage is not None:
        found |= {
            "gen_ai.usage.input_tokens": usage.prompt,
            "gen_ai.usage.output_tokens": usage.completion,
            "gen_ai.usage.prompt_tokens": usage.prompt,
            "gen_ai.usage.completion_tokens": usage.completion,
        }
        if usage.cached is not None:
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached
    return found


def attributes_of_try(attempt: Try) -> Attributes:
    """Of the event that says how an attempt ended."""
    found: Attributes = {
        "enginehouse.service": attempt.service,
        "enginehouse.outcome": attempt.outcome.value,
    }
    if attempt.sent:
        found["enginehouse.seconds"] = attempt.ended - attempt.sent
    return found


def _operation(record: Record) -> str:
    path = _path(record)
    generates = record.method == b"POST" or path == _REALTIME  # a browser asks with OPTIONS whether it may ask
    return _OPERATIONS.get(path, "") if generates else ""


def _path(record: Record) -> str:
    return path_of(record.target).rstrip("/").removeprefix("/v1")
