"""The request that lets another engine go on: only what must differ does."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.continued import continued_body
from enginehouse.wire.resume import Kind, Partial
from tests.wire.streams import once

HI = {"role": "user", "content": 'a "]} b'}
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)
others = st.dictionaries(
    st.text(max_size=4).filter(lambda name: name not in ("messages", "prompt")), anything, max_size=4
)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def partial(text: str, tokens: int = 1, **more: Any) -> Partial:
    return Partial(envelope={"id": "x"}, text=text, tokens=tokens, **more)


def continued(kind: Kind, body: dict, part: Partial, layout: dict | None = None) -> dict[str, Any]:
    """The body to be sent, in which nothing is given twice."""
    sent = continued_body(kind, json.dumps(body, **(layout or {})).encode("utf-8", "surrogatepass"), part)
    found: dict[str, Any] = json.loads(sent, object_pairs_hook=once)
    return found


@given(others, others, st.text(min_size=1), layouts)
def test_the_text_becomes_a_last_message_and_all_else_stays(before: dict, after: dict, text: str, layout: dict) -> None:
    body = {**before, "messages": [HI], **after}
    message = {"role": "assistant", "content": text}
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    assert continued(Kind.CHAT, body, partial(text), layout) == {**body, "messages": [HI, message], **flags}


@given(others, others, st.text(), st.text(min_size=1), layouts)
def test_the_text_goes_behind_the_prompt_and_all_else_stays(
    before: dict, after: dict, prompt: str, text: str, layout: dict
) -> None:
    body = {**before, "prompt": prompt, **after}
    assert continued(Kind.COMPLETION, body, partial(text), layout) == {**body, "prompt": prompt + text}


@given(st.text(), st.text(min_size=1), st.dictionaries(st.text(max_size=2), anything, max_size=2), layouts)
def test_a_message_that_the_client_had_continued_is_continued_further(
    half: str, text: str, more: dict, layout: dict
) -> None:
    last = {**more, "role": "assistant", "content": half, "x": "content"}
    body = {"messages": [HI, last, HI, last], "continue_final_message": True, "add_generation_prompt": False}
    grown = {**last, "content": half + text}
    assert continued(Kind.CHAT, body, partial(text), layout) == {**body, "messages": [HI, last, HI, grown]}


def test_flags_that_are_there_are_changed_where_they_stand() -> None:
    body = b'{"add_generation_prompt" : true , "messages":[ {"role":"user"} ] ,"continue_final_message":false}\n'
    assert continued_body(Kind.CHAT, body, partial("t")) == (
        b'{"add_generation_prompt" : false , "messages":[ {"role":"user"} ,{"role":"assistant","content":"t"}] ,'
        b'"continue_final_message":true}\n'
    )


def test_limits_are_lowered_by_what_was_delivered() -> None:
    body = {"messages": [HI], "max_tokens": 10, "max_completion_tokens": None, "n_predict": -1, "min_tokens": 3}
    sent = continued(Kind.CHAT, body, partial("text", 4))
    assert [sent[name] for name in ("max_tokens", "max_completion_tokens", "n_predict", "min_tokens")] == [
        6,
        None,
        -1,
        0,
    ]


def test_white_space_that_the_next_engine_is_to_say_again_is_not_told_and_not_counted() -> None:
    body = {"messages": [HI], "max_tokens": 10}
    sent = continued(Kind.CHAT, body, partial("text\n\n", 3, pending="\n\n", pending_tokens=2))
    assert (sent["messages"][-1]["content"], sent["max_tokens"]) == ("text", 9)


def test_where_no_text_was_delivered_the_request_is_sent_again_as_it_was() -> None:
    body = b'{"messages": [{"role": "user"}],"max_tokens":5}'
    assert continued_body(Kind.CHAT, body, partial("", 0)) == body
    assert continued_body(Kind.CHAT, body, partial("\n", 1, pending="\n", pending_tokens=1)) == body
    assert continued_body(Kind.CHAT, body, Partial()) == body


def test_where_only_the_usage_is_missing_the_end_is_asked_for() -> None:
    for limit in ({"max_completion_tokens": 9, "min_tokens": 9}, {}):
        sent = continued(Kind.CHAT, {"messages": [HI], **limit}, partial("text", 9, finish_reason="stop"))
        expected = {"max_completion_tokens": 1, "min_tokens": 0} if limit else {"max_tokens": 1}
        assert {name: value for name, value in sent.items() if "tokens" in name} == expected
    spaced = partial("text\n\n", 9, pending="\n\n", pending_tokens=2, finish_reason="stop")
    assert continued(Kind.CHAT, {"messages": [HI]}, spaced)["max_tokens"] == 3
