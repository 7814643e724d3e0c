"""Whatever engines and clients send, continuing decides; it never raises."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginehouse.wire.continued import continued_body
from enginehouse.wire.resume import Kind, read_partial
from enginehouse.wire.resumed import Splicer, closing
from tests.wire.streams import STYLES, Engine
from tests.wire.test_resumed_streams import asking

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from([10**30, "\ud800", 0]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)
_NAMES = """
id object created model choices usage index delta text content role finish_reason prompt_tokens completion_tokens error
prompt_tokens_details cached_tokens stream messages prompt max_tokens stream_options continue_final_message n
"""
NAMES = _NAMES.split()


@st.composite
def spoilt(draw: st.DrawFn, document: bytes) -> bytes:
    """A JSON document, or an event, in which some values are others."""
    text = document.removeprefix(b"data: ").removesuffix(b"\n\n")
    try:
        value = json.loads(text)
    except ValueError:
        return document
    for _ in range(draw(st.integers(1, 3))):
        at: Any = value
        while isinstance(at, dict) and at:
            name = draw(st.sampled_from([*at, draw(st.sampled_from(NAMES))]))
            inner = at[name][0] if isinstance(at.get(name), list) and at[name] else at.get(name)
            if not isinstance(inner, dict) or draw(st.booleans()):
                at[name] = draw(json_values)
                break
            at = inner
    made = json.dumps(value).encode()
    return b"data: " + made + b"\n\n" if document.startswith(b"data:") else made


@settings(max_examples=300)
@given(st.data(), st.sampled_from(Kind), st.sampled_from(STYLES), st.integers(0, 6))
def test_values_of_any_kind_anywhere_never_raise(data: st.DataObject, kind: Kind, style: str, cut: int) -> None:
    body = asking(kind, usage=True)
    first = Engine(style, kind, ("a", "b", "\n")).stream(body)
    body = data.draw(spoilt(body)) if data.draw(st.booleans()) else body
    events = [data.draw(spoilt(event)) if data.draw(st.booleans()) else event for event in first]
    partial = read_partial(kind, body, b"".join(events[:cut]))
    if partial is None:
        partial = read_partial(kind, asking(kind, usage=True), b"".join(first[:cut]))
    else:
        continued_body(kind, body, partial)
    if partial is not None:
        closing(kind, partial)
        Splicer(kind, partial).feed(b"".join(events))


@given(st.sampled_from(Kind), st.binary(max_size=60), st.binary(max_size=60))
def test_bytes_of_any_kind_never_raise(kind: Kind, body: bytes, raw: bytes) -> None:
    read_partial(kind, body, raw)
    read_partial(kind, asking(kind), b"data: " + raw + b"\n\n")
    partial = read_partial(kind, asking(kind), b"".join(Engine("vllm", kind, ("a",)).stream(asking(kind))[:1]))
    assert partial
    splicer = Splicer(kind, partial)
    splicer.feed(b"data: " + raw + b"\n\n")
    splicer.feed(raw)


@pytest.mark.parametrize("depth", [100_000])
def test_depth_never_raises(depth: int) -> None:
    deep = b'{"id":"x","choices":' + b"[" * depth + b"]" * depth + b"}"
    assert read_partial(Kind.CHAT, asking(Kind.CHAT), b"data: " + deep + b"\n\n") is None
    body = asking(Kind.CHAT)[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    assert read_partial(Kind.CHAT, body, b'data: {"id":"x","choices":[]}\n\n') is None
