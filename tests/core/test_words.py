"""Outcomes and the messages between control and workers: closed sets, and frames that come whole."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.fleet import MAX_FRAME, Fleet, Report, Service, ServiceCount, encode_frame, split_frames
from enginehouse.core.outcome import AT_ANY_TIME, TABLE, Outcome, Phase, Who, termination


def test_every_outcome_has_exactly_one_row() -> None:
    assert set(TABLE) == set(Outcome)


def test_only_engines_are_blamed_and_clients_errors_never_are() -> None:
    for outcome in Outcome:
        row = outcome.row
        assert not row.blames or row.who is Who.ENGINE
        assert not 400 <= row.status < 500 or row.who is not Who.ENGINE


def test_termination_codes_tell_who_and_in_which_phase() -> None:
    assert Outcome.ANSWERED.termination == "--"
    assert Outcome.CLIENT_LEFT.termination == "CD"
    assert Outcome.CONNECT_FAILED.termination == "EC"
    for letters in (Who, Phase):
        assert len({member.value for member in letters}) == len(letters)


def test_what_may_come_at_any_time_says_when_it_came() -> None:
    left = Outcome.CLIENT_LEFT
    assert [termination(left, 0, False), termination(left, 1, False), termination(left, 2, True)] == ["CQ", "CH", "CD"]
    assert [termination(Outcome.STOPPING, attempts, False) for attempts in (0, 1)] == ["RQ", "RH"]
    for outcome in set(Outcome) - AT_ANY_TIME:
        assert {termination(outcome, n, begun) for n in (0, 1) for begun in (False, True)} == {outcome.termination}


def test_a_refusal_that_may_pass_says_when_to_come_back() -> None:
    for outcome in Outcome:
        if outcome.row.status == 503 and outcome.row.should_retry is None:
            assert outcome.row.retry_after, outcome


SERVICE = Service(name="a", slot=1, generation=2, host="h", addresses=("::1",), port=3, models=("org/m",), up=True)
MESSAGES: list[Fleet | Report] = [
    Fleet(version=1, synced=True, services=(SERVICE,), known_models=("org/m",)),
    Fleet(version=2, synced=False),
    Report(worker=1, epoch=2, fleet_version=3, counts=(ServiceCount(1, 2, 3, 4, 5.5, 6),)),
]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_frames_cut_anywhere_come_whole_and_in_order(cuts: list[int]) -> None:
    stream = b"".join(encode_frame(message) for message in MESSAGES)
    buffer, frames, at = bytearray(), [], 0
    for size in [*cuts, len(stream)]:
        buffer += stream[at : at + size]
        at += size
        frames += split_frames(buffer)
    kinds = [type(message) for message in MESSAGES]
    decoded = [msgspec.msgpack.decode(frame, type=kind) for frame, kind in zip(frames, kinds, strict=True)]
    assert decoded == MESSAGES
    assert not buffer


def test_a_frame_that_would_be_too_long_is_an_error_before_it_is_read() -> None:
    with pytest.raises(ValueError, match=str(MAX_FRAME)):
        split_frames(bytearray((MAX_FRAME + 1).to_bytes(4, "little")))
