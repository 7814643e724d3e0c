"""The tokens of the simulated engine, and when they come."""

import asyncio
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.sim import asks
from enginehouse.sim.model import Engine, count_tokens, parted, seed, text, token, tokens_in

prompts = st.text(max_size=40)


@given(prompts)
def test_the_same_prompt_gives_the_same_text_everywhere(prompt: str) -> None:
    assert text(seed(prompt), 0, 20) == text(seed(prompt), 0, 20)


def test_the_text_of_a_prompt_never_changes_between_versions() -> None:
    assert text(seed("hello"), 0, 5).decode() == "we table then warm asked"


@given(prompts, st.integers(0, 30), st.integers(0, 30))
def test_an_answer_can_go_on_after_any_of_its_tokens(prompt: str, first: int, more: int) -> None:
    start = seed(prompt)
    partial = text(start, 0, first)
    assert tokens_in(start, partial) == first
    assert partial + text(start, first, more) == text(start, 0, first + more)


@given(prompts, st.integers(1, 10))
def test_a_beginning_cut_inside_a_token_is_not_recognised(prompt: str, count: int) -> None:
    start = seed(prompt)
    assert tokens_in(start, text(start, 0, count)[:-1]) is None or len(token(start, count - 1).strip()) == 1


def test_tokens_hold_nothing_that_json_escapes() -> None:
    every = b"".join(token(start, 1) for start in range(3000))
    assert msgspec.json.encode(every.decode()) == b'"' + every + b'"'


@pytest.mark.parametrize(("prompt", "tokens"), [("", 1), ("abcd", 1), ("abcde", 2), ("日本", 2)])
def test_a_token_of_a_prompt_is_four_bytes(prompt: str, tokens: int) -> None:
    assert count_tokens(prompt) == tokens


HI = {"role": "user", "content": "hi"}
HALF = {"role": "assistant", "content": [{"type": "text", "text": "half"}]}
GO_ON = {"continue_final_message": True, "add_generation_prompt": False}


def chat(*turns: dict, prefills: bool = False, **fields: object) -> asks.Work:
    return asks.chat(msgspec.json.encode({"messages": turns, **fields}), prefills)


TOOLS = [{"type": "function", "function": {"name": "look"}}]


def test_tools_are_the_beginning_of_a_prompt() -> None:
    without, some, none = chat(HI).prompt, chat(HI, tools=TOOLS).prompt, chat(HI, tools=None).prompt
    assert some == msgspec.json.encode(TOOLS).decode() + without
    assert none == without


@pytest.mark.parametrize(("fields", "prefills"), [(GO_ON, False), (GO_ON, True), ({}, True)])
def test_the_partial_answer_is_no_part_of_the_prompt(fields: dict, prefills: bool) -> None:
    whole = chat(HI, prefills=prefills)
    continued = chat(HI, HALF, prefills=prefills, **fields)
    assert continued.prompt == whole.prompt
    assert (whole.partial, continued.partial) == ("", "half")


def test_vllm_takes_a_last_message_of_the_assistant_for_a_whole_turn_unless_told_otherwise() -> None:
    assert chat(HI, HALF).partial == ""
    assert chat(HI, HALF).prompt != chat(HI).prompt
    for prefills in (False, True):
        assert chat(HI, HALF, HALF, prefills=prefills, **GO_ON).prompt == chat(HI, HALF).prompt


@pytest.mark.parametrize(
    ("turns", "prefills", "fields"),
    [
        ([HI, HALF], False, {"continue_final_message": True}),
        ([HI, HALF], False, {"continue_final_message": True, "add_generation_prompt": True}),
        ([HI, HALF], True, {"continue_final_message": True, "add_generation_prompt": True}),
        ([HI], False, GO_ON),
        ([HI, HALF], True, {"continue_final_message": True}),
        ([HI, HALF, HALF], True, {}),
    ],
)
def test_what_real_engines_refuse_to_go_on_with_is_refused(turns: list[dict], prefills: bool, fields: dict) -> None:
    with pytest.raises(ValueError):
        chat(*turns, prefills=prefills, **fields)


@given(prompts, st.integers(1, 30))
def test_a_prompt_that_ends_with_the_beginning_of_its_answer_is_gone_on_with(prompt: str, known: int) -> None:
    first, partial = parted(prompt)  # a prompt may end with a word of its answer by chance
    start = seed(first)
    answer = text(start, tokens_in(start, partial.encode()) or 0, known).decode()
    assert parted(prompt + answer) == (first, partial + answer)


async def emitted(ttft: float, step: float, count: int, stepwise: bool) -> list[tuple[int, float]]:
    """What one job emits: how many tokens, and when since its start."""
    loop = asyncio.get_running_loop()
    engine, began, seen, done = Engine(loop, ttft, step), loop.time(), [], asyncio.Event()

    def emit(ready: int) -> None:
        seen.append((ready, loop.time() - began))
        if sum(n for n, _ in seen) >= count:
            done.set()

    engine.start(count, stepwise, emit)
    await asyncio.wait_for(done.wait(), 20)
    return seen


async def test_tokens_come_no_earlier_than_their_times() -> None:
    seen = await emitted(0.05, 0.02, 4, stepwise=True)
    at = 0
    for ready, when in seen:
        at += ready
        assert when >= 0.05 + (at - 1) * 0.02 - 0.005
    assert at == 4


async def test_an_answer_that_is_not_streamed_comes_when_its_last_token_would() -> None:
    [(ready, when)] = await emitted(0.05, 0.02, 4, stepwise=False)
    assert ready == 4
    assert when >= 0.05 + 3 * 0.02 - 0.005


async def test_without_times_an_answer_is_there_before_start_returns() -> None:
    seen: list[int] = []
    Engine(asyncio.get_running_loop(), 0, 0).start(7, False, seen.append)
    assert seen == [7]


async def test_without_times_a_stream_still_comes_token_by_token() -> None:
    assert [ready for ready, _ in await emitted(0, 0, 5, stepwise=True)] == [1] * 5


async def test_a_paused_job_emits_nothing_and_a_resumed_one_the_rest() -> None:
    seen: list[int] = []
    job = Engine(asyncio.get_running_loop(), 0, 0).start(100, True, seen.append)
    await asyncio.sleep(0)
    job.pause()
    before = sum(seen)
    await asyncio.sleep(0.02)
    assert sum(seen) == before < 100
    job.resume()
    for _ in range(100):
        await asyncio.sleep(0)
    assert sum(seen) == 100


async def test_a_cancelled_job_emits_nothing_ever_again() -> None:
    seen: list[int] = []
    job = Engine(asyncio.get_running_loop(), 0, 0).start(100, True, seen.append)
    job.cancel()
    job.resume()
    await asyncio.sleep(0.02)
    assert seen == []


async def test_an_engine_with_slots_works_on_so_many_jobs_and_the_others_wait_their_turn() -> None:
    engine = Engine(asyncio.get_running_loop(), 0.01, 0, slots=2)
    order: list[int] = []
    done = asyncio.Event()

    def emit(number: int, _chunk: object) -> None:
        order.append(number)
        if len(order) == 4:
            done.set()

    jobs = [engine.start(1, False, partial(emit, number)) for number in range(5)]
    assert [job.first_at > 0 for job in jobs] == [True, True, False, False, False]
    jobs[2].cancel()
    await asyncio.wait_for(done.wait(), 20)
    assert order == [0, 1, 3, 4]


async def test_a_cancelled_job_gives_its_slot_to_the_next_one_even_where_that_is_paused() -> None:
    engine = Engine(asyncio.get_running_loop(), 60, 0, slots=1)
    jobs = [engine.start(1, True, lambda _: None) for _ in range(3)]
    jobs[1].pause()
    jobs[1].resume()
    jobs[1].pause()
    assert jobs[1].first_at == 0
    jobs[0].cancel()
    jobs[0].cancel()
    assert jobs[1].first_at > 0
    assert jobs[2].first_at == 0
    for job in jobs:
        job.cancel()
    assert engine.start(1, True, lambda _: None).first_at > 0, "no slot was lost"
