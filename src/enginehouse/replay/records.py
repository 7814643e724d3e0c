"""A replay for programs: its report as one JSON document, its calls as lines of JSON.

Owns these two shapes, which others read: fields are added, never renamed. May not live here: arithmetic (`figures`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Final

import msgspec

from enginehouse.replay.call import Call
from enginehouse.replay.figures import Figures
from enginehouse.replay.run import Options
from enginehouse.replay.traces import Trace

FORMAT: Final = 1


def document(trace: Trace, told: Figures, chosen: Options) -> bytes:
    """The report, with what was ordered, but for the key."""
    ordered = {name: value for name, value in asdict(chosen).items() if name != "api_key"}
    whole = {
        "format": FORMAT,
        "trace": {"name": trace.name, "requests": trace.requests, "sessions": len(trace.sessions)},
        "options": ordered,
        **asdict(told),
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def rows(calls: Iterable[Call], began: float) -> Iterator[bytes]:
    """A line for each call: times are seconds of wall time since the beginning, null where it did not come to that."""

    def since(at: float) -> float | None:
        return round(at - began, 6) if at else None

    for call in calls:
        row = {
            "session": call.session,
            "due": since(call.due),
            "sent": since(call.sent),
            "head": since(call.head),
            "first": since(call.first),
            "end": since(call.end),
            "ending": call.ending,
            "detail": call.detail,
            "status": call.status,
            "service": call.service,
            "attempts": call.attempts,
            "asked_prompt": call.turn.tokens,
            "asked_output": call.turn.answer,
            "prompt": None if call.prompt < 0 else call.prompt,
            "output": None if call.completion < 0 else call.completion,
            "cached": None if call.cached < 0 else call.cached,
        }
        yield msgspec.json.encode(row) + b"\n"
