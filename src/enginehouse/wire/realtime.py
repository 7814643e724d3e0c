"""The beginning of a WebSocket on `/v1/realtime`: the handshake, and the model in the client's first event.

Owns `accept_key`, `sub_protocol`, `FirstEvents` and `close_frame`. Frames are wsproto's work; it is loaded only where
a WebSocket comes. May not live here: the tunnel after that, which nobody reads.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha1
from typing import TYPE_CHECKING, Any

import msgspec

from enginehouse.core.outcome import Outcome
from enginehouse.core.units import KIB
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.peek import checked_model

if TYPE_CHECKING:
    from wsproto.frame_protocol import Frame, FrameProtocol

#: What a client may send before it names its model.
MAX_BYTES = 64 * KIB
MAX_EVENTS = 8
#: Of the sub-protocols a client offers, the one the Realtime API answers with.
SUB_PROTOCOL = b"realtime"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: bytes) -> bytes | None:
    """`Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 4.2.2); None where that is not 16 bytes of base64."""
    try:
        if len(b64decode(key, validate=True)) != 16:
            return None
    except (binascii.Error, ValueError):
        return None
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def sub_protocol(offered: Iterable[bytes]) -> bytes | None:
    """The sub-protocol to answer with, or None: `offered` are the lines of `Sec-WebSocket-Protocol`."""
    names = [name.strip() for line in offered for name in line.split(b",")]
    return SUB_PROTOCOL if SUB_PROTOCOL in names else None


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    model: Any = None
    session: Any = None


class FirstEvents:
    """Reads a client's frames until one names the model. The bytes fed are the caller's to keep and pass on."""

    def __init__(self) -> None:
        from wsproto.frame_protocol import FrameProtocol

        self._frames: FrameProtocol = FrameProtocol(client=False, extensions=[])
        self._text: list[str] = []
        self._bytes = 0
        self._events = 0

    def feed(self, data: bytes) -> str | None:
        """Some bytes from the client. The model as soon as a `session.update` names it.

        Raises `Unreadable` where the frames are broken, the client closes, or neither `MAX_BYTES` nor `MAX_EVENTS`
        brought a model.
        """
        from wsproto.frame_protocol import ParseFailed

        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise Unreadable(Outcome.MODEL_MISSING, f"No session.update with a model in {MAX_BYTES} bytes.", "model")
        try:
            self._frames.receive_bytes(data)
            for frame in self._frames.received_frames():
                model = self._frame(frame)
                if model is not None:
                    return model
        except ParseFailed as error:
            raise Unreadable(Outcome.BAD_REQUEST, f"Broken WebSocket frame ({error}).") from None
        return None

    def _frame(self, frame: Frame) -> str | None:
        from wsproto.frame_protocol import Opcode

        if frame.opcode is Opcode.CLOSE:
            raise Unreadable(Outcome.MODEL_MISSING, "Closed before a session.update named a model.", "model")
        if frame.opcode is not Opcode.TEXT or not isinstance(frame.payload, str):
            return None
        self._text.append(frame.payload)
        if not frame.message_finished:
            return None
        text = "".join(self._text)
        self._text.clear()
        self._events += 1
        model = _model_of(text)
        if model is None and self._events >= MAX_EVENTS:
            raise Unreadable(Outcome.MODEL_MISSING, f"No session.update with a model in {MAX_EVENTS} events.", "model")
        return model


def _model_of(text: str) -> str | None:
    """The model that an event names, or None."""
    try:
        event = msgspec.json.decode(text, type=_Event)
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable(Outcome.BAD_JSON, "The first events must be JSON objects.") from None
    if event.type != "session.update":
        return None
    session = event.session if isinstance(event.session, dict) else {}
    model = session.get("model", event.model)
    if model is None:
        return None
    if not isinstance(model, str):
        raise Unreadable(Outcome.BAD_MODEL, "`model` must be a string.", "model")
    return checked_model(model)


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame with a reason of at most 123 bytes (1008: refused, 1013: try again later)."""
    from wsproto.frame_protocol import FrameProtocol

    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))
