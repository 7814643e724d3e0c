"""A stream whose engine breaks off between any two events, and what the client gets in the end.

Engines answer from a script here (`streams`), so what an undisturbed stream says is known exactly.
"""

import itertools
import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from enginehouse.wire.continued import continued_body
from enginehouse.wire.resume import Kind, read_partial
from enginehouse.wire.resumed import COMMENT, Splicer, closing
from tests.wire.streams import STYLES, Engine, read

#: White space alone is a token, or stands before a word: as in every vocabulary.
words = st.sampled_from(
    ["Hel", "lo", " world", " é", " 日本", "🙂", '"', "\\", "\n", "\n\n", "  ", " fi", "\t", "x", " <"]
)
scripts = st.lists(words, max_size=9).map(tuple)
kinds = st.sampled_from(Kind)
styles = st.sampled_from(STYLES)


def asking(kind: Kind, usage: bool = False, every: bool = False, limit: int | None = 100, **more: Any) -> bytes:
    """A request as SDKs write it."""
    body: dict[str, Any] = {"model": "m"}
    if kind is Kind.CHAT:
        body["messages"] = [{"role": "system", "content": '"]}'}, {"role": "user", "content": "[{"}]
    else:
        body["prompt"] = "Once "
    if usage:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": every}
    return json.dumps({**body, "max_tokens": limit, "stream": True, **more}).encode()


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream as it may arrive: cut anywhere."""
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(at)]


def gone_on(kind: Kind, body: bytes, got: bytes, engine: Engine, breaks_after: int | None, cuts: list[int]) -> bytes:
    """All that the client has after another engine went on, which breaks off itself after some events."""
    partial = read_partial(kind, body, got)
    assert partial is not None
    if end := closing(kind, partial):
        return got + end
    events = engine.stream(continued_body(kind, body, partial))
    splicer = Splicer(kind, partial)
    for piece in pieces(b"".join(events[:breaks_after]), cuts):
        got += splicer.feed(piece)
        assert not splicer.failed
    assert splicer.finished == (b"[DONE]" in got)
    return got


@settings(max_examples=300)
@given(
    kinds,
    scripts,
    st.tuples(styles, styles, styles),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 10)),
    st.lists(st.integers(0, 12), min_size=1, max_size=2),
    st.lists(st.integers(0, 5000), max_size=3),
)
def test_wherever_streams_break_the_client_reads_the_undisturbed_answer(
    kind: Kind,
    script: tuple[str, ...],
    style: tuple[str, str, str],
    usage: bool,
    every: bool,
    counts_end: bool,
    limit: int | None,
    breaks: list[int],
    cuts: list[int],
) -> None:
    body = asking(kind, usage, every, limit)
    undisturbed = Engine(style[0], kind, script, counts_end=counts_end).stream(body)
    got = b"".join(undisturbed[: breaks[0]])
    for number, breaks_after in enumerate([*breaks[1:], None], 1):
        if b"[DONE]" in got:
            break
        engine = Engine(style[number], kind, script, f"other{number}", style[number] == "vllm", counts_end)
        got = gone_on(kind, body, got, engine, breaks_after, cuts)
    found, expected = read(got), read(b"".join(undisturbed))
    assert (found.text, found.roles, found.reasons, found.done) == (expected.text, expected.roles, expected.reasons, 1)
    assert len(found.envelopes) == 1
    assert breaks[0] == 0 or found.envelopes == expected.envelopes
    if usage:
        assert found.usage == expected.usage
    if kind is Kind.CHAT or "llama.cpp" not in style:  # which tells it in another place
        assert found.usages == expected.usages


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", Kind)
def test_every_cut_of_a_stream_is_read_by_the_openai_sdk_as_one_answer(kind: Kind, style: str) -> None:
    body = asking(kind, usage=True)
    script = ("\n", "Hello", " wörld", "\n", "\n", "  ", "- 🙂", "!")
    undisturbed = Engine(style, kind, script).stream(body)
    for cut in range(len(undisturbed)):
        other = Engine(STYLES[cut % len(STYLES)], kind, script, "other")
        got = gone_on(kind, body, b"".join(undisturbed[:cut]), other, None, [])
        chunks = sdk_reads(kind, got)
        assert "".join(text_of(kind, chunk) for chunk in chunks) == "".join(script)
        assert len({chunk.id for chunk in chunks}) == 1
        assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
            "stop"
        ]
        assert chunks[-1].usage.total_tokens == 7 + len(script)


def sdk_reads(kind: Kind, stream: bytes) -> list[Any]:
    """What the openai SDK makes of a stream."""
    head = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=head, content=stream))
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(base_url="http://router/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):
        if kind is Kind.CHAT:
            return list(client.chat.completions.create(model="m", messages=[], stream=True))
        return list(client.completions.create(model="m", prompt="", stream=True))


def text_of(kind: Kind, chunk: Any) -> str:
    return "".join((c.delta.content if kind is Kind.CHAT else c.text) or "" for c in chunk.choices)


@given(kinds, scripts, st.integers(0, 12), st.integers(0, 400))
def test_a_stream_that_ends_within_an_event_is_not_gone_on_with(kind: Kind, script: Any, cut: int, inside: int) -> None:
    body = asking(kind)
    events = Engine("vllm", kind, script).stream(body)
    assume(cut < len(events))
    piece = events[cut][: inside % len(events[cut])]
    assume(piece)
    assert read_partial(kind, body, b"".join(events[:cut]) + piece) is None


@given(kinds, scripts)
def test_a_stream_that_has_ended_is_not_gone_on_with(kind: Kind, script: Any) -> None:
    body = asking(kind)
    assert read_partial(kind, body, b"".join(Engine("vllm", kind, script).stream(body))) is None


def test_the_client_can_see_in_the_stream_that_another_service_went_on() -> None:
    body = asking(Kind.CHAT)
    events = Engine("vllm", Kind.CHAT, ("a", "b")).stream(body)
    got = gone_on(Kind.CHAT, body, b"".join(events[:2]), Engine("vllm", Kind.CHAT, ("a", "b"), "other"), None, [])
    assert got.split(b"\n\n")[2] + b"\n\n" == COMMENT
