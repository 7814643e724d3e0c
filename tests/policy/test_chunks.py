"""Chunks: equal beginnings have equal hashes, in every process and version."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.units import KIB
from enginehouse.policy.chunks import ENDS, MOST, chunks, prompt_of, seed_of

SEED = seed_of("m")


def test_chunks_are_a_kib_each_up_to_8_kib_then_wider_and_64_reach_over_half_a_mib() -> None:
    assert ENDS[:10] == (1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192, 12288, 16384)
    assert len(ENDS) == MOST == 64
    assert ENDS[-1] == 544 * KIB
    assert all(later - earlier in (KIB, 4 * KIB, 16 * KIB) for earlier, later in pairwise(ENDS))


def test_hashes_are_the_same_on_every_host_and_in_every_version() -> None:
    """Routers that share nothing have to agree; numbers that change lose what is warm when a router is replaced."""
    assert SEED == 4333608540437681663
    assert chunks(b"enginehouse " * 300, SEED) == [14423434567193910, 3501731183133765020, 3188727749928702828]


@given(st.integers(0, 40 * KIB), st.integers(0, 40 * KIB), st.integers(0, 40 * KIB))
def test_two_prompts_share_the_hashes_of_what_they_share_and_no_other(common: int, first: int, second: int) -> None:
    one, other = b"c" * common + b"1" * first, b"c" * common + b"2" * second
    a, b = chunks(one, SEED), chunks(other, SEED)
    shared = sum(1 for end in ENDS if end <= common)
    assert a[:shared] == b[:shared]
    assert not set(a[shared:]) & set(b[shared:])
    assert len(set(a)) == len(a) == sum(1 for end in ENDS if end <= len(one))


def test_a_piece_that_is_not_whole_has_no_hash() -> None:
    assert chunks(b"", SEED) == []
    assert chunks(b"x" * 1023, SEED) == []
    assert len(chunks(b"x" * 1024, SEED)) == 1
    assert chunks(b"x" * 1024 + b"tail", SEED) == chunks(b"x" * 1024, SEED)


def test_what_lies_behind_the_last_end_is_not_looked_at() -> None:
    whole = bytes(ENDS[-1])
    assert chunks(whole, SEED) == chunks(whole + b"more" * 10000, SEED)
    assert len(chunks(whole, SEED)) == MOST


def test_the_same_text_for_another_model_is_another_prompt() -> None:
    text = b"x" * 9000
    assert not set(chunks(text, SEED)) & set(chunks(text, seed_of("other")))
    assert seed_of("\udc80") != seed_of("\udc81")


@given(st.binary(max_size=9000))
def test_hashes_fit_in_62_bits_and_do_not_depend_on_how_the_bytes_are_held(text: bytes) -> None:
    found = chunks(text, SEED)
    assert all(0 <= each < 1 << 62 for each in found)
    assert chunks(memoryview(b"{" + text + b"}")[1:-1], SEED) == found
    prompt = prompt_of(text, SEED)
    assert (prompt.size, prompt.chunks, prompt.ends) == (len(text), found, ENDS)
