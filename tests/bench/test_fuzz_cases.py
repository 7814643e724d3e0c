"""What the fuzzer makes of its corpus: cases that can be made again, and smaller."""

from __future__ import annotations

import json
import random

import pytest

from bench.fuzz.case import Case, End, Kind, Leave, as_json, from_json, make, pieces, tag, with_number
from bench.fuzz.corpus import ANSWERS, REQUESTS, TAG
from bench.fuzz.minimise import minimise
from bench.fuzz.mutate import CHANGES, MAX_SIZE, Change, mutate


def test_a_seed_and_a_number_always_make_the_same_case_and_others_make_others() -> None:
    assert [make(7, number) for number in range(50)] == [make(7, number) for number in range(50)]
    assert make(7, 1) != make(8, 1)


def test_every_kind_of_case_and_every_way_to_leave_and_to_end_comes_up() -> None:
    cases = [make(1, number) for number in range(400)]
    assert {case.kind for case in cases} == set(Kind)
    assert {case.leave for case in cases} == set(Leave)
    assert {answer.end for case in cases for answer in case.answers} == set(End)


def test_a_case_carries_its_number_where_an_engine_finds_it_and_can_be_given_another_one() -> None:
    case = next(case for case in (make(1, number) for number in range(50)) if case.kind is Kind.PLAIN)
    assert b"X-Fuzz: " + case.tag + b"\r\n" in case.request
    assert TAG not in case.request
    again = with_number(case, 12345)
    assert b"X-Fuzz: 00012345\r\n" in again.request
    assert len(again.request) == len(case.request)


def test_a_case_that_was_kept_can_be_read_again() -> None:
    for number in range(100):
        assert from_json(json.loads(json.dumps(as_json(make(3, number))))) == make(3, number)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_changes_something_at_least_in_one_of_some_tries_and_takes_any_bytes(change: Change) -> None:
    rng = random.Random(1)
    for data in (REQUESTS["chat"], ANSWERS["stream"]):
        assert any(change(data, rng) != data for _ in range(20))
    for data in (b"", b"\r\n", b"0", b"\xff" * 5):
        for _ in range(20):
            change(data, rng)


def test_nothing_grows_without_bound() -> None:
    rng = random.Random(2)
    for _ in range(300):
        assert len(mutate(ANSWERS["large"], list(ANSWERS.values()), rng)[0]) <= MAX_SIZE


@pytest.mark.parametrize("name", [name for name, data in REQUESTS.items() if data.count(b" HTTP/1.") == 1])
def test_requests_of_the_corpus_have_the_length_that_they_say(name: str) -> None:
    head, _, body = REQUESTS[name].partition(b"\r\n\r\n")
    lengths = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    if lengths:
        assert lengths == [len(body)]
    assert b"X-Fuzz: " + TAG in head


def test_pieces_of_a_message_are_the_message() -> None:
    assert pieces(b"abcdef", (1, 4, 4, 99)) == [b"a", b"bcd", b"ef"]
    assert pieces(b"abc", ()) == [b"abc"]
    assert pieces(b"", ()) == []


async def test_a_finding_is_reduced_to_the_bytes_that_matter() -> None:
    case = next(case for case in (make(5, number) for number in range(500)) if case.kind is Kind.REQUEST and case.cuts)
    case = with_number(case, 1)
    case = Case(**{**case.__dict__, "request": case.request + b"NEEDLE" + case.request, "leave": Leave.RESET})

    async def shows(candidate: Case) -> bool:
        return b"NEEDLE" in candidate.request

    small = await minimise(case, shows, 20.0)
    assert small.request == b"NEEDLE"
    assert (small.cuts, small.leave) == ((), Leave.WAIT)


def test_a_tag_is_as_long_as_its_placeholder() -> None:
    assert len(tag(0)) == len(tag(99_999_999)) == len(TAG)
