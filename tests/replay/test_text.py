"""Text of blocks: the same for the same number, of the right length, different from its first bytes on."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.replay import text
from enginehouse.replay.text import Texts

NUMBERS = st.integers(-(1 << 62), 1 << 62)


@given(NUMBERS)
def test_a_block_of_512_tokens_is_2_kib_of_plain_words_and_always_the_same(number: int) -> None:
    block = Texts().block(number)
    assert len(block.encode()) == 2048
    assert block == Texts().block(number)
    assert json.dumps(block) == f'"{block}"'


@given(st.sets(NUMBERS, min_size=2, max_size=2))
def test_two_blocks_differ_in_their_first_bytes_and_in_what_follows(numbers: set[int]) -> None:
    texts = Texts()
    one, other = (texts.block(number) for number in numbers)
    assert one[:20] != other[:20]
    assert one[100:1024] != other[100:1024]


def test_the_words_do_not_change_between_versions() -> None:
    """Whoever compares two runs compares the same prompts."""
    assert Texts().block(59)[:60] == "3b. Found fast sea two keep us any plan back room plan deep."


def test_a_prompt_is_its_blocks_cut_to_its_length() -> None:
    texts = Texts()
    prompt = texts.prompt(700, (0, 7))
    assert len(prompt) == 2800
    assert prompt == (texts.block(0) + texts.block(7))[:2800]
    assert texts.prompt(512, (0,)) == prompt[:2048]


def test_tokens_of_another_length_and_blocks_of_another_size_are_heeded() -> None:
    assert len(Texts(bytes_per_token=4.5).prompt(512, (1,))) == 2304
    assert len(Texts(block_tokens=16).prompt(40, (1, 2, 3))) == 160
    assert Texts(block_tokens=16).block(1).startswith("1. ")


def test_another_salt_makes_another_text_from_the_first_byte_on() -> None:
    assert Texts(salt="b").block(1)[:1] != Texts(salt="a").block(1)[:1]
    assert Texts(salt="b").block(1)[100:] != Texts(salt="a").block(1)[100:]


def test_what_is_remembered_is_bounded() -> None:
    texts = Texts(block_tokens=text.CACHED // 16)  # four of them fit
    first = texts.block(0)
    for number in range(6):
        texts.block(number)
    assert len(texts._known) <= 4
    assert texts.block(0) == first
