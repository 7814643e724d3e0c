"""What is warm where: learned, shared, bounded, undone and forgotten."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from enginehouse.core.ask import Prompt
from enginehouse.core.fleet import Service
from enginehouse.core.shared import CHUNKS, Shared
from enginehouse.policy.chunks import ENDS
from enginehouse.policy.prefix_index import DOUBTS, KV_TOKENS, RATE, TOKEN_BYTES, PrefixIndex
from tests.policy.fleets import service, services, shared
from tests.policy.prompts import colliding, digest, said

A, B = services(1, 1)
#: Keeps 100 KiB: 25,600 tokens of 4 bytes.
SMALL = service("small", 2, kv_tokens=25_600)


def index_of(memory: Shared | None = None) -> PrefixIndex:
    index = PrefixIndex(memory or shared())
    index.use((A, B, SMALL))
    return index


# -- what is warm ------------------------------------------------------------------------------------------------------


def test_what_a_service_was_given_is_warm_there_and_nowhere_else() -> None:
    index = index_of()
    assert index.matched(A, said(1)) == 0
    index.touch(A, said(1))
    assert index.matched(A, said(1)) == ENDS[7]
    assert index.matched(B, said(1)) == 0
    assert index.matched(A, said(2)) == 0


@pytest.mark.parametrize("common", range(13))
def test_as_much_is_warm_as_two_prompts_have_in_common(common: int) -> None:
    index = index_of()
    index.touch(A, said(1, 12))
    index.touch(A, said(0, 12))
    assert index.matched(A, said(2, 12, common)) == (ENDS[common - 1] if common else 0)


@pytest.mark.parametrize("more", [0, 1, 5, 30])
def test_a_conversation_that_goes_on_is_warm_up_to_where_it_was(more: int) -> None:
    index = index_of()
    index.touch(A, said(1, 10))
    assert index.matched(A, said(1, 10 + more)) == ENDS[9]


def test_a_prompt_without_a_whole_chunk_is_warm_nowhere() -> None:
    index = index_of()
    index.touch(A, said(1, 0, tail=700))
    assert index.matched(A, said(1, 0, tail=700)) == 0


@pytest.mark.parametrize("lost", range(11))
def test_a_chunk_that_another_one_took_the_place_of_is_looked_over(lost: int) -> None:
    memory = shared()
    index = index_of(memory)
    index.touch(A, said(1, 11))
    index.touch(A, Prompt(1024, [colliding(digest(1, lost))], ENDS))
    expected = ENDS[9] if lost == 10 else ENDS[10]
    assert index.matched(A, said(1, 11)) == expected


def test_what_one_worker_gives_a_service_all_others_know() -> None:
    memory = shared()
    one, other = index_of(memory), index_of(memory)
    one.touch(A, said(1))
    assert other.matched(A, said(1)) == ENDS[7]
    other.touch(A, said(1, 20))
    assert one.matched(A, said(1, 30)) == ENDS[19]


# -- what a prompt is expected to need ---------------------------------------------------------------------------------


def test_a_touch_tells_what_was_expected() -> None:
    index = index_of()
    first = index.touch(A, said(1, 8, tail=808))
    assert (first.matched, first.known, first.age, first.uncached) == (0, 0, 0, 2251)
    index.touch(A, said(2, 4))
    then = index.touch(A, said(1, 8, tail=808), running=2, queued=512)
    assert (then.matched, then.known, then.uncached) == (8192, 8192, 203)
    assert then.age == 4 + 7  # the other prompt, and what was paid for after the deepest chunk of this one
    assert (then.waited, then.idle, first.idle) == (2, False, True)


# -- how much ----------------------------------------------------------------------------------------------------------


def test_what_was_used_within_the_capacity_is_warm_and_what_is_older_than_half_as_much_again_is_not() -> None:
    index = index_of()
    assert index.capacity(SMALL) == 100
    index.touch(SMALL, said(1))
    for number in range(2, 13):
        index.touch(SMALL, said(number))
        assert index.matched(SMALL, said(1)) == ENDS[7]
    for number in range(13, 22):
        index.touch(SMALL, said(number))
    assert index.matched(SMALL, said(1)) == 0
    assert index.matched(SMALL, said(21)) == ENDS[7]


def test_what_is_used_again_and_again_stays_however_much_passes_by() -> None:
    index = index_of()
    for number in range(100):
        index.touch(SMALL, said(0))
        for other in range(9):
            index.touch(SMALL, said(1 + (9 * number + other) % 190))
        assert index.matched(SMALL, said(0)) == ENDS[7]


def test_what_one_prompt_loses_first_is_its_end() -> None:
    """Engines give up the last blocks of a sequence first: the first ones are of use without them, not the reverse."""
    index = index_of()
    index.touch(SMALL, said(1, 20))
    filler, matches = 2, []
    while index.matched(SMALL, said(1, 20)):
        matches.append(index.matched(SMALL, said(1, 20)))
        index.touch(SMALL, said(filler, 1))
        filler += 1
    assert matches == sorted(matches, reverse=True)
    assert len(set(matches)) > 10


@pytest.mark.parametrize(("tokens", "kib"), [(0, KV_TOKENS * 4 // 1024), (1_000_000, 3906)])
def test_the_capacity_is_that_of_the_engines_kv_cache_as_far_as_it_is_told(tokens: int, kib: int) -> None:
    assert index_of().capacity(service("c", 5, kv_tokens=tokens)) == kib


def fill(index: PrefixIndex, first: int, count: int) -> None:
    for number in range(first, first + count):
        hashed = number * 0x9E3779B97F4A7C15 & (1 << 62) - 1
        index.touch((A, B)[number % 2], Prompt(1024, (hashed,), ENDS))


def test_a_million_distinct_prompts_need_no_more_memory_than_a_hundred_thousand() -> None:
    index = index_of()
    fill(index, 0, 100_000)
    before = psutil.Process().memory_info().rss
    fill(index, 100_000, 900_000)
    assert psutil.Process().memory_info().rss - before < 1 << 20


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what of a mapping exists")
def test_a_service_costs_64_kib_and_one_that_was_given_no_prompt_nothing() -> None:
    memory = shared()
    index = PrefixIndex(memory)
    for number in range(1000):
        unused = service(f"x{number}", 3 * number + 10)
        index.use((unused,))
        assert index.matched(unused, said(1)) == 0
    index.use((A, B))
    before = resident(memory)
    fill(index, 0, 100_000)
    assert resident(memory) - before <= 2 * 64 + 16


def resident(memory: Shared) -> int:
    """KiB of the shared memory that exist."""
    size = memory.chunks.nbytes // 1024
    found = Path("/proc/self/smaps").read_text().split("\n")
    mapped = [place for place, line in enumerate(found) if line.startswith("Size:") and int(line.split()[1]) > size]
    return sum(int(found[place + 3].split()[1]) for place in mapped if found[place + 3].startswith("Rss:"))


# -- undone, forgotten -------------------------------------------------------------------------------------------------


def test_what_a_service_never_got_is_not_warm_there() -> None:
    index = index_of()
    index.touch(A, said(1, 4))
    index.undo(index.touch(A, said(1, 12)))
    assert index.matched(A, said(1, 12)) == ENDS[3]


def test_undoing_brings_back_what_had_to_make_room() -> None:
    index = index_of()
    other = Prompt(ENDS[2], [colliding(digest(1, 0)), digest(3, 1), colliding(digest(3, 1))], ENDS)
    index.touch(A, said(1, 1))
    index.touch(A, said(3, 2))
    index.undo(index.touch(A, other))
    assert index.matched(A, said(1, 1)) == ENDS[0]
    assert index.matched(A, said(3, 2)) == ENDS[1]
    assert index.matched(A, Prompt(1024, other.chunks[:1], ENDS)) == 0


def test_undoing_leaves_alone_what_somebody_else_needed_meanwhile() -> None:
    memory = shared()
    one, other = index_of(memory), index_of(memory)
    failed = one.touch(A, said(1))
    taken = Prompt(1024, [colliding(digest(1, 5))], ENDS)
    other.touch(A, taken)
    one.undo(failed)
    one.undo(failed)
    assert other.matched(A, taken) == 1024
    assert one.matched(A, said(1)) == 0


def test_a_service_that_is_forgotten_has_nothing_warm_and_learns_anew() -> None:
    index = index_of()
    for place in (A, B):
        index.touch(place, said(1))
    index.forget(A)
    assert index.matched(A, said(1)) == 0
    assert index.matched(B, said(1)) == ENDS[7]
    assert index.touch(A, said(1)).known == 0
    assert index.matched(A, said(1)) == ENDS[7]


def test_another_incarnation_in_the_slot_begins_with_nothing() -> None:
    memory = shared()
    index = index_of(memory)
    touch = index.touch(A, said(1), running=0)
    index.answered(touch, 0.01)
    index.learn(touch, 4000, 0)
    known = index.figures(A)
    assert known.rate != RATE
    assert known.token_bytes != TOKEN_BYTES
    again = service("s0", A.slot, generation=2)
    index.use((again, B))
    assert index.matched(again, said(1)) == 0
    figures = index.figures(again)
    assert (figures.rate, figures.token_bytes) == (RATE, TOKEN_BYTES)
    assert index.touch(again, said(1)).known == 0


def test_the_same_incarnation_in_a_new_fleet_keeps_what_it_has() -> None:
    index = index_of()
    index.touch(A, said(1))
    index.use(services(1, 1))
    assert index.matched(A, said(1)) == ENDS[7]


def test_answers_of_an_incarnation_that_is_gone_teach_nothing() -> None:
    index = index_of()
    touch = index.touch(A, said(1), running=0)
    index.use((service("s0", A.slot, generation=2),))
    index.answered(touch, 0.01)
    index.learn(touch, 4000, 0)
    figures = index.figures(service("s0", A.slot, generation=2))
    assert (figures.rate, figures.token_bytes) == (RATE, TOKEN_BYTES)


# -- what answers teach ------------------------------------------------------------------------------------------------


def answer(
    index: PrefixIndex, place: Service, prompt: Prompt, cached: int, tokens: int = 2000, queued: int = 0
) -> None:
    index.learn(index.touch(place, prompt, 1, queued), tokens, cached)


def test_a_service_that_has_nothing_of_what_it_was_given_was_restarted_and_is_forgotten() -> None:
    index = index_of()
    index.touch(A, said(3))
    index.touch(A, said(1))
    for _ in range(DOUBTS):
        assert index.matched(A, said(3))
        answer(index, A, said(1), 0)
    assert index.matched(A, said(3)) == 0


def test_once_may_be_chance() -> None:
    index = index_of()
    index.touch(A, said(1))
    for _ in range(5):
        answer(index, A, said(1), 0)
        answer(index, A, said(1), 1900)
    assert index.matched(A, said(1))


def test_who_follows_while_the_first_is_still_computed_finds_nothing_yet_and_that_shows_nothing() -> None:
    index = index_of()
    index.touch(A, said(1))
    for _ in range(5):
        answer(index, A, said(1), 0, queued=20_000)
    assert index.matched(A, said(1))


def test_an_engine_that_does_not_tell_what_was_cached_is_believed_to_have_it() -> None:
    index = index_of()
    index.touch(A, said(1))
    for _ in range(5):
        answer(index, A, said(1), -1)
    assert index.matched(A, said(1))


def test_other_workers_see_at_their_next_look_what_one_has_learned() -> None:
    memory = shared()
    one, other = index_of(memory), index_of(memory)
    assert other.figures(A).token_bytes == TOKEN_BYTES
    answer(one, A, said(1), -1, 4000)
    assert other.figures(A).token_bytes == TOKEN_BYTES
    other.look()
    assert other.figures(A).token_bytes == one.figures(A).token_bytes < TOKEN_BYTES


def test_the_rate_is_learned_only_while_the_service_has_nothing_else_to_do() -> None:
    index = index_of()
    busy = index.touch(A, said(1, 12), running=1)
    index.answered(busy, 0.1)
    assert index.figures(A).rate == RATE
    idle = index.touch(A, said(2, 12), running=0)
    index.answered(idle, 0.1)
    assert index.figures(A).rate > RATE


def test_where_something_was_warm_the_end_of_the_answer_tells_what_had_to_be_computed() -> None:
    index = index_of()
    index.touch(A, said(1, 12))
    touch = index.touch(A, said(1, 30), running=0)
    index.answered(touch, 0.01)
    assert index.figures(A).rate == RATE
    index.learn(touch, 20_000, 17_000)
    assert index.figures(A).rate == pytest.approx(RATE + 0.1 * (3000 / 0.01 - RATE))


def test_words_fit_in_64_bits_whatever_the_hash() -> None:
    index = index_of()
    for number in range(200):
        index.touch(A, Prompt(1024, [(1 << 62) - 1 - number * 7919 * CHUNKS - number], ENDS))
    assert index.matched(A, Prompt(1024, [(1 << 62) - 1], ENDS)) == 1024
    assert sys.maxsize > 1 << 62
