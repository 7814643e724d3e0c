"""Reading a JSON body without building it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome
from enginehouse.wire.peek import MAX_MEMBERS, SMALL, Peek, Unreadable, peek, rename_model, text_bytes

#: Makes a body large, so that it takes the other way through `peek`.
PADDING = ', "padding": "' + "x" * SMALL + '"'


def both(body: str) -> list[bytes]:
    """The body as it is and as a large one."""
    assert body.endswith("}")
    return [body.encode(), (body[:-1] + (PADDING if len(body) > 2 else PADDING[1:]) + "}").encode()]


def refusal(body: bytes, strict: bool = True) -> Outcome:
    with pytest.raises(Unreadable) as refused:
        peek(body, strict)
    assert refused.value.message
    return refused.value.outcome


@pytest.mark.parametrize("body", both('{"model": "org/m", "stream": true, "prompt_cache_key": "k"}'))
def test_the_members_that_routing_needs_are_read(body: bytes) -> None:
    found = peek(body, True)
    assert (found.model, found.stream, found.prompt_cache_key) == ("org/m", True, "k")


@pytest.mark.parametrize("body", both('{"previous_response_id": "resp_1", "model": "m"}'))
def test_the_response_that_is_continued_is_read(body: bytes) -> None:
    assert peek(body, True).previous_response_id == "resp_1"


@pytest.mark.parametrize("value", ["null", "1", '"yes"', "[]", "{}", "false"])
def test_other_members_may_be_of_any_type(value: str) -> None:
    for body in both(f'{{"model":"m","stream":{value},"prompt_cache_key":{value},"previous_response_id":{value}}}'):
        found = peek(body, True)
        assert (found.model, found.stream) == ("m", False)


@pytest.mark.parametrize("body", [*both("{}"), *both('{"model": null}'), *both('{"messages": [{"model": "x"}]}')])
def test_a_body_may_name_no_model(body: bytes) -> None:
    assert peek(body, True).model is None


@pytest.mark.parametrize("value", ["1", "[]", "{}", "true", '["m"]', '""', '"' + "x" * 600 + '"'])
def test_a_model_must_be_a_name(value: str) -> None:
    for body in both(f'{{"model": {value}}}'):
        assert refusal(body) is Outcome.BAD_MODEL
        assert refusal(body, strict=False) is Outcome.BAD_MODEL


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "a", "model": "b"}',
        '{"model": "a", "model": "a"}',
        '{"model": "a", "mod\\u0065l": "b"}',
        '{"\\u006D\\u006F\\u0064\\u0065\\u006C": "a", "x": 1, "model": "b"}',
        '{"model": null, "model": "b"}',
        '{"model": "a", "messages": [{"model": "c"}], "model": "b"}',
    ],
)
def test_a_model_given_twice_is_refused_since_parsers_differ_on_which_counts(body: str) -> None:
    """Trap: duplicate keys, escaped ones too: last wins, other parsers differ."""
    for sized in both(body):
        assert refusal(sized) is Outcome.BAD_MODEL


@pytest.mark.parametrize(
    "body",
    [
        '{"tools": [{"function": {"parameters": {"properties": {"model": {}}}}}], "model": "m"}',
        '{"messages": [{"content": "say \\"model\\": \\"x\\" "}], "model": "m"}',
        '{"x\\"model": 1, "model": "m"}',
        '{"messages": "model", "model": "m"}',
        '{"mod\\u0065l": "m"}',
        '{"x": "\\u006d", "model": "m"}',
    ],
)
def test_the_word_model_elsewhere_is_none_of_our_business(body: str) -> None:
    for sized in both(body):
        assert peek(sized, True).model == "m"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"model": "m"',
        b'{"model": "m",}',
        b'{"model" "m"}',
        b'{"model": "m"} x',
        b'{"model": "m"}{}',
        b"{'model': 'm'}",
        b'{"model": m}',
        b'{"a": 01, "model": "m"}',
        b'{"a": "\x01", "model": "m"}',
        b"[]",
        b"[1, 2]",
        b'"model"',
        b"1",
        b"null",
        b"model=m",
        b"\xff\xfe",
        b'{"model": "m", "x": "\xff"}',
        b'{"model": "m", "x": "\xc0\xaf"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused_where_it_must_be_one_and_passed_on_elsewhere(body: bytes) -> None:
    """Defect: A list as body gives 500. Also: A body that cannot be parsed goes to any model's service.

    Trap: invalid UTF-8 in skipped fields passes.
    """
    assert refusal(body) is Outcome.BAD_JSON
    assert peek(body, strict=False) == Peek()


@pytest.mark.parametrize("broken", ["[1, 2", '{"x": 1', '"abc', "[1, 2]]", "1x", "tru", '{"x" 1}', "-", "01"])
def test_large_bodies_are_checked_as_small_ones_are(broken: str) -> None:
    body = ('{"model": "m"' + PADDING + f', "y": {broken}' + "}").encode()
    assert refusal(body) is Outcome.BAD_JSON


@pytest.mark.parametrize("depth", [100_000, 5_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_refused_and_nothing_breaks(depth: int, opening: str) -> None:
    """Trap: deep nesting raises RecursionError, not DecodeError."""
    assert refusal(b'{"model": "m", "x": ' + opening.encode() * depth) is Outcome.BAD_JSON
    assert peek(b'{"model": "m", "x": ' + opening.encode() * depth, strict=False) == Peek()


def test_a_body_of_very_many_members_is_refused_after_a_bounded_effort() -> None:
    many = b",".join(b'"k%d":1' % n for n in range(MAX_MEMBERS + 2000))
    assert refusal(b"{" + many + b"}") is Outcome.BAD_JSON


def test_token_prompts_are_routed_by_their_model() -> None:
    """Defect: A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service."""
    body = json.dumps({"prompt": [[1, 2, 3], [4]] * 2000, "model": "tokens"}).encode()
    assert len(body) > SMALL
    assert peek(body, True).model == "tokens"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["model", "stream", "messages", 'x"model', "mod\\el", "prompt_cache_key"]) | st.text()
STYLES: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}]


@given(st.dictionaries(NAMES, JSON, max_size=6), st.sampled_from(STYLES), st.booleans())
@example({"model": "m", "x": ["model"]}, {"indent": 1}, True)
def test_peek_finds_what_a_full_parse_finds(members: dict[str, Any], style: dict[str, Any], large: bool) -> None:
    if large:
        members = {**members, "padding": "x" * SMALL}
    body = json.dumps(members, **style).encode("utf-8", "surrogatepass")
    model = members.get("model")
    if not is_utf8(body):
        assert refusal(body) is Outcome.BAD_JSON
    elif model is not None and not (isinstance(model, str) and 0 < len(model) <= 512):
        assert refusal(body) is Outcome.BAD_MODEL
    else:
        found = peek(body, True)
        assert found.model == model
        assert found.stream == (members.get("stream") is True)


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


# -- renaming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "renamed"),
    [
        ('{"model":"a"}', '{"model":"new"}'),
        (
            '{ "x": {"model": "a"} ,\n "model"\t:  "a"  , "y": 1.0 }',
            '{ "x": {"model": "a"} ,\n "model"\t:  "new"  , "y": 1.0 }',
        ),
        ('{"mod\\u0065l":"a","z":[]}', '{"mod\\u0065l":"new","z":[]}'),
        ('{"guided_json":{"b":1,"a":2},"model":"\\u0061" }', '{"guided_json":{"b":1,"a":2},"model":"new" }'),
    ],
)
def test_an_alias_changes_the_bytes_of_the_models_value_and_no_others(body: str, renamed: str) -> None:
    assert rename_model(body.encode(), "new") == renamed.encode()


@given(st.dictionaries(NAMES, JSON, max_size=6), st.sampled_from(STYLES), st.text(min_size=1, max_size=20))
def test_renaming_leaves_every_other_member_as_it_was(members: dict[str, Any], style: dict[str, Any], new: str) -> None:
    members["model"] = "old"
    body = json.dumps(members, **style).encode("utf-8", "surrogatepass")
    expected = json.dumps({**members, "model": "\x00"}, **style).encode("utf-8", "surrogatepass")
    before, after = expected.split(b'"\\u0000"', 1) if expected.count(b'"\\u0000"') == 1 else (b"", b"")
    renamed = rename_model(body, new)
    if before:
        assert renamed.startswith(before)
        assert renamed.endswith(after)
    assert json.loads(renamed) == {**json.loads(body), "model": new}


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({"messages": [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "de"}]}, 5),
        (
            {
                "messages": [
                    {
                        "content": [
                            {"type": "text", "text": "abc"},
                            {"type": "image_url", "image_url": {"url": "x" * 99}},
                        ]
                    }
                ]
            },
            3,
        ),
        ({"messages": [{"content": None}, {"content": 'a\n"b"'}]}, 5),
        ({"messages": [{"content": "é中"}]}, 5),
        ({"prompt": "abc"}, 3),
        ({"prompt": ["abc", "de"]}, 5),
        ({"prompt": [1, 2, 3]}, 12),
        ({"prompt": [[1, 2, 3], [4]]}, 16),
        ({"input": "abc"}, 3),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "abc"}]}]}, 3),
        ({"text": "abc"}, 3),
        ({"messages": "abc", "tools": ["xxxxxx"]}, 3),
        ({"messages": 5}, 0),
        ({}, 0),
    ],
)
def test_the_text_of_a_request_is_measured_without_its_images_and_tools(body: dict[str, Any], size: int) -> None:
    assert text_bytes(json.dumps(body).encode()) == size
    assert text_bytes(json.dumps(body, ensure_ascii=False).encode()) == size


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": [', b'{"prompt": ' + b"[" * 10000, b"\xff"])
def test_what_cannot_be_read_has_no_text(body: bytes) -> None:
    assert text_bytes(body) == 0
