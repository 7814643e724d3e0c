"""Where the prompt is in a body, whatever API it speaks."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.peek import SHORT, SMALL, peek
from enginehouse.wire.prompt import NAMES, text_of

LIMIT = 1 << 20
PADDING = ', "padding": "' + "x" * SMALL + '"'


def found(body: str | bytes, limit: int = LIMIT) -> tuple[int, bytes] | None:
    body = body.encode() if isinstance(body, str) else body
    members = peek(body.ljust(SHORT), True).prompt
    assert members is not None
    text = text_of(members, limit)
    return (text[0], bytes(text[1][:limit])) if text is not None else None


def start(body: str | bytes, limit: int = LIMIT) -> bytes:
    text = found(body, limit)
    return b"" if text is None else text[1]


def both(body: str) -> list[str]:
    """The body as it is and as a large one, which takes the other way through `peek`."""
    return [body, body[:-1] + PADDING + "}"]


MESSAGES = '[{"role": "system", "content": "Be brief."}, {"role":"user","content":"h\u00e9 \\u00e9"}]'


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        (f'{{"model": "m", "messages": {MESSAGES}, "stream": true}}', MESSAGES),
        (f'{{"system": "S", "max_tokens": 9, "messages": {MESSAGES}}}', f'"S"{MESSAGES}'),
        ('{"model": "m", "prompt": "Once upon"}', '"Once upon"'),
        ('{"prompt": ["a", "b"], "model": "m"}', '["a", "b"]'),
        ('{"prompt": [1, 2], "model": "m"}', "[1, 2]"),
        ('{"input_ids": [[1], [2]], "sampling_params": {}}', "[[1], [2]]"),
        ('{"instructions": "I", "input": [{"role": "user"}], "text": {"format": {}}}', '"I"[{"role": "user"}]'),
        ('{"text": "Once", "sampling_params": {}}', '"Once"'),
        ('{"contents": [{"parts": []}]}', '[{"parts": []}]'),
        ('{"input_prefix": "def f(", "input_suffix": ")"}', '"def f("'),
    ],
)
def test_every_api_has_its_own_members_for_what_the_model_gets_to_see(body: str, prompt: str) -> None:
    for sized in both(body):
        assert start(sized) == prompt.encode()


def test_in_a_body_without_one_whole_chunk_nobody_looks_for_it() -> None:
    for body in (b'{"prompt": "Once upon"}', b'{"pr\\u006fmpt": "Once upon"}'):
        assert peek(body, True).prompt is None
        assert peek(body.ljust(SHORT - 1), True).prompt is None
        assert peek(body.ljust(SHORT), True).prompt is not None


@pytest.mark.parametrize("body", ['{"model": "m"}', '{"messages": null}', '{"prompt": 1}', '{"prompt": {"id": "x"}}'])
def test_a_body_may_have_no_prompt(body: str) -> None:
    for sized in both(body):
        assert found(sized) is None


def test_tools_count_before_the_messages_and_what_separates_caches_before_all_wherever_the_client_put_them() -> None:
    body = '{"messages": [1], "tools": [2], "system": "3", "lora_path": "4", "cache_salt": "5"}'
    for sized in both(body):
        assert start(sized) == b'"5""4"[2]"3"[1]'


def test_names_may_be_escaped_and_values_surrounded_by_blanks() -> None:
    for sized in both('{ "mess\\u0061ges" :\r\n [1,\t2] \n , "to\\u006fls"\t: [3] }'):
        assert start(sized) == b"[3][1,\t2]"


def test_what_stands_within_a_member_is_no_member() -> None:
    for sized in both('{"messages": [{"prompt": "a", "tools": [1]}], "metadata": {"prompt": "b"}}'):
        assert start(sized) == b'[{"prompt": "a", "tools": [1]}]'


def test_a_member_given_twice_counts_as_given_last_as_engines_have_it() -> None:
    for sized in both('{"messages": [1], "messages": [2]}'):
        assert start(sized) == b"[2]"


def test_a_long_prompt_is_told_in_full_but_only_its_start_is_handed_out() -> None:
    body = json.dumps({"tools": ["t" * 50], "messages": ["m" * 5000]}, separators=(",", ":"))
    text = found(body, 1000)
    assert text is not None
    assert text[0] == 54 + 5004
    assert text[1] == b'["' + b"t" * 50 + b'"]["' + b"m" * 944


def test_a_prompt_of_one_member_is_not_copied() -> None:
    for size in (SMALL - 100, 100_000):
        body = b'{"messages": ["' + b"m" * size + b'"]}'
        tracemalloc.start()
        try:
            members = peek(body, True).prompt
            assert members is not None
            text = text_of(members, 1000)
            copied = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert text is not None
        assert text[0] == len(text[1]) == size + 4
        assert copied < size / 2


_MEMBERS = st.dictionaries(
    st.sampled_from(sorted(NAMES)),
    st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.text())),
)


@given(_MEMBERS, st.sampled_from([None, 1]), st.integers(0, 200))
def test_small_and_large_bodies_have_the_same_prompt(members: dict[str, Any], indent: int | None, limit: int) -> None:
    small, large = (found(json.dumps({**members, "x": padding}, indent=indent), limit) for padding in ("", "x" * SMALL))
    assert (small is None) == (large is None)
    if small is not None and large is not None:
        assert small == large
