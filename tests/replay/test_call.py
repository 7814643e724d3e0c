"""Reading an answer: when its first token came, what it counted, how it ended, wherever its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.replay import call as calls
from enginehouse.replay.call import Call, Ending
from enginehouse.replay.traces import Turn
from tests.replay.engine import DONE, delta, event, usage

TURN = Turn(10, 5, (1,))
ROLE = delta("", role="assistant")


def played(*pieces: bytes, status: int = 200, stream: bool = True, keeps: bool = False) -> Call:
    """A call whose answer came in these pieces: the head at 1, the pieces at 2, 3, … and the end at 100."""
    call = Call(0, TURN, 0.0, keeps)
    call.begun(status, stream, 1.0)
    for at, piece in enumerate(pieces):
        call.feed(piece, 2.0 + at)
    call.whole(100.0)
    return call


def test_the_first_token_is_the_first_text_not_a_role_a_comment_or_an_empty_event() -> None:
    call = played(b":\n\n", ROLE, delta(None), event({"choices": []}), delta("Hello"), delta(" you"), usage(7, 2), DONE)
    assert call.ending is Ending.ANSWERED
    assert call.first == 6.0
    assert (call.prompt, call.completion, call.cached) == (7, 2, -1)
    assert call.events == 7


@pytest.mark.parametrize(
    "piece",
    [
        delta(None, reasoning_content="Hm"),
        delta(None, reasoning="Hm"),
        delta(None, tool_calls=[{"index": 0}]),
        event({"choices": [{"index": 0, "text": "Hm"}]}),
        delta("Hm").replace(b"data: ", b"data:").replace(b"\n", b"\r\n"),
    ],
)
def test_thoughts_tools_completions_and_other_ends_of_lines_are_tokens_too(piece: bytes) -> None:
    assert played(ROLE, piece, DONE).first == 3.0


def test_cached_tokens_are_told() -> None:
    assert played(delta("a"), usage(100, 1, cached=64), DONE).cached == 64
    assert played(delta("a"), usage(100, 1, cached=0), DONE).cached == 0


def test_an_engine_that_counts_nothing_is_not_guessed_at() -> None:
    call = played(delta("a"), DONE)
    assert (call.ending, call.prompt, call.completion, call.cached) == (Ending.ANSWERED, -1, -1, -1)


WHOLE = b"".join([b": ping\n\n", ROLE, *(delta(f" wörd{n}") for n in range(150)), usage(9, 150, 4), DONE])


@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=40), st.booleans())
def test_wherever_an_answer_is_cut_it_says_the_same(cuts: list[int], keeps: bool) -> None:
    places = [0, *sorted(set(cuts)), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in pairwise(places)]
    call = played(*pieces, keeps=keeps)
    assert (call.ending, call.prompt, call.completion, call.cached) == (Ending.ANSWERED, 9, 150, 4)
    first = WHOLE.index(b"w\xc3\xb6rd0")
    end = WHOLE.index(b"\n", first)  # the event is whole where its line ends
    assert call.first == 2.0 + next(at for at, place in enumerate(places[1:]) if place >= end)
    if keeps:
        assert call.text() == "".join(f" wörd{n}" for n in range(150))


def test_what_is_not_kept_is_forgotten_while_it_comes() -> None:
    call = Call(0, TURN, 0.0)
    call.begun(200, True, 1.0)
    for _ in range(10_000):
        call.feed(delta("word"), 2.0)
    assert sum(map(len, call._pieces)) < calls.TAIL + (calls.PIECES + 1) * len(delta("word"))


def test_a_flood_without_a_token_is_not_searched_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "HEAD", 1000)
    call = Call(0, TURN, 0.0)
    call.begun(200, True, 1.0)
    for _ in range(200):
        call.feed(b": ping\n\n", 2.0)
    assert call.first == 2.0


BROKEN = event({"error": {"message": "out of memory", "type": "server_error", "code": 500}})


@pytest.mark.parametrize(
    ("pieces", "status", "stream", "ending", "detail"),
    [
        ([b'{"error":{"code":"server_is_overloaded"}}'], 503, False, Ending.REJECTED, "503 server_is_overloaded"),
        ([b'{"error":{"type":"rate_limit"}}'], 429, False, Ending.REJECTED, "429 rate_limit"),
        ([b'{"error":{"co', b'de":"model_not_found"}}'], 404, False, Ending.STATUS, "404 model_not_found"),
        ([b"<html>Bad gateway</html>"], 502, False, Ending.STATUS, "502"),
        ([b'{"error":"words"}'], 500, False, Ending.STATUS, "500"),
        ([], 500, False, Ending.STATUS, "500"),
        ([b'{"choices":[]}'], 200, False, Ending.NO_STREAM, ""),
        ([delta("a")], 200, True, Ending.TRUNCATED, ""),
        ([delta("a"), BROKEN], 200, True, Ending.BROKEN, "500"),
        ([delta("a"), BROKEN, DONE], 200, True, Ending.BROKEN, "500"),
        ([ROLE, usage(3, 0), DONE], 200, True, Ending.EMPTY, ""),
        ([], 200, True, Ending.TRUNCATED, ""),
    ],
)
def test_an_error_has_its_kind_and_what_tells_it_apart(
    pieces: list[bytes], status: int, stream: bool, ending: Ending, detail: str
) -> None:
    call = played(*pieces, status=status, stream=stream)
    assert (call.ending, call.detail, call.end) == (ending, detail, 100.0)


def test_an_endless_error_is_kept_in_part() -> None:
    call = Call(0, TURN, 0.0)
    call.begun(500, False, 1.0)
    for _ in range(1000):
        call.feed(b"x" * 1000, 2.0)
    assert len(call._error) <= calls.ERROR


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_make_it_stumble(pieces: list[bytes]) -> None:
    call = played(*pieces, b"data: {\n\n", b"data: [[[[\n", keeps=True)
    assert call.ending is not Ending.UNFINISHED
    call.text()
