"""The beginning of a WebSocket on /v1/realtime, with frames made by wsproto's client."""

from __future__ import annotations

import json

import pytest
from wsproto.frame_protocol import CloseReason, FrameProtocol

from enginehouse.core.outcome import Outcome
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.realtime import MAX_BYTES, MAX_EVENTS, FirstEvents, accept_key, close_frame, sub_protocol


def frame(event: object) -> bytes:
    """A client's text frame."""
    text = event if isinstance(event, str) else json.dumps(event)
    return bytes(FrameProtocol(client=True, extensions=[]).send_data(text))


UPDATE = frame({"type": "session.update", "session": {"model": "org/m", "voice": "x"}})
OTHER = frame({"type": "input_audio_buffer.append", "audio": "AAAA"})


def refusal(*chunks: bytes) -> Outcome:
    events = FirstEvents()
    with pytest.raises(Unreadable) as refused:
        list(map(events.feed, chunks))
    assert refused.value.message
    return refused.value.outcome


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("key", [b"", b"x", b"dGhlIHNhbXBsZSBub25jZQ", b"AAAA", b"dGhlIHNhbXBsZSBub25j\xff=="])
def test_a_key_that_is_not_sixteen_bytes_of_base64_is_none(key: bytes) -> None:
    assert accept_key(key) is None


def test_of_the_protocols_offered_realtime_is_chosen() -> None:
    assert sub_protocol([b"openai-beta, realtime", b"x"]) == b"realtime"
    assert sub_protocol([b"x", b"realtime"]) == b"realtime"
    assert sub_protocol([b"realtime2"]) is None
    assert sub_protocol([]) is None


def test_the_model_is_named_by_the_first_session_update() -> None:
    assert FirstEvents().feed(UPDATE) == "org/m"
    assert FirstEvents().feed(frame({"type": "session.update", "model": "m"})) == "m"


def test_it_may_come_byte_by_byte_and_after_other_events() -> None:
    events = FirstEvents()
    stream = OTHER + frame({"type": "session.update", "session": {}}) + UPDATE
    found = [events.feed(stream[n : n + 1]) for n in range(len(stream))]
    assert found == [None] * (len(stream) - 1) + ["org/m"]


def test_it_may_come_in_fragments_with_pings_and_binary_frames_between() -> None:
    client = FrameProtocol(client=True, extensions=[])
    first = bytes(client.send_data('{"type":"session.update",', fin=False))
    ping = bytes(FrameProtocol(client=True, extensions=[]).ping(b"x"))
    second = bytes(client.send_data('"session":{"model":"m"}}', fin=True))
    binary = bytes(FrameProtocol(client=True, extensions=[]).send_data(b"\x00\x01"))
    assert FirstEvents().feed(binary + first + ping + second) == "m"


def test_a_client_that_names_no_model_is_refused_after_some_bytes_or_events() -> None:
    assert refusal(*[OTHER] * MAX_EVENTS) is Outcome.MODEL_MISSING
    assert refusal(frame("x" * MAX_BYTES)) is Outcome.MODEL_MISSING
    endless = b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4)
    assert refusal(endless, *[b"x" * 1000] * 100) is Outcome.MODEL_MISSING


def test_a_client_that_closes_has_named_none() -> None:
    assert refusal(bytes(FrameProtocol(client=True, extensions=[]).close(1000, "bye"))) is Outcome.MODEL_MISSING


@pytest.mark.parametrize("event", ["no json", "[]", "[" * 50_000])
def test_the_first_events_must_be_json_objects(event: str) -> None:
    assert refusal(frame(event)) is Outcome.BAD_JSON


@pytest.mark.parametrize("model", [5, [], "", "x" * 600])
def test_a_model_must_be_a_name(model: object) -> None:
    assert refusal(frame({"type": "session.update", "session": {"model": model}})) is Outcome.BAD_MODEL


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02{}",  # not masked
        b"\x83\x80\x00\x00\x00\x00",  # an opcode that does not exist
        b"\xf1\x80\x00\x00\x00\x00",  # reserved bits
        b"\x80\x80\x00\x00\x00\x00",  # a continuation of nothing
        b"\x09\x80\x00\x00\x00\x00",  # a ping in fragments
        b"\x81\x82\x00\x00\x00\x00\xff\xfe",  # not UTF-8
    ],
)
def test_broken_frames_are_a_bad_request(data: bytes) -> None:
    assert refusal(data) is Outcome.BAD_REQUEST


def test_a_refusal_is_a_close_frame_of_a_server() -> None:
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(close_frame(1008, "no such model: " + "x" * 500))
    (closed,) = client.received_frames()
    assert closed.payload[0] == CloseReason.POLICY_VIOLATION
    assert str(closed.payload[1]).startswith("no such model")
