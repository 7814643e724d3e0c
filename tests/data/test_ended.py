"""Requests that are over and those who are told of them."""

from __future__ import annotations

from enginehouse.data.ended import BATCH, Ended
from enginehouse.wire.access_line import Entry
from tests.data.access_log_rig import entry


class Noting:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.now = 0.0

    def take(self, entries: list[Entry], now: float) -> None:
        self.batches.append([entry[4].decode() for entry in entries])
        self.now = now


class Broken:
    def take(self, entries: list[Entry], now: float) -> None:
        raise LookupError("a bug")


def fail(error: BaseException) -> None:
    raise error


def test_every_taker_gets_every_request_once_and_in_order() -> None:
    takers = [Noting(), Noting()]
    ended = Ended([*takers], fail)
    for number in range(3):
        ended.add(entry(str(number)), 1.0)
    assert [taker.batches for taker in takers] == [[], []]
    ended.flush(2.0)
    ended.add(entry("3"), 3.0)
    ended.flush(4.0)
    for taker in takers:
        assert taker.batches == [["0", "1", "2"], ["3"]]
        assert taker.now == 4.0


def test_a_beat_without_requests_is_told_too_for_some_have_things_to_do() -> None:
    taker = Noting()
    Ended([taker], fail).flush(1.0)
    assert taker.batches == [[]]


def test_a_full_batch_does_not_wait_for_a_beat() -> None:
    taker = Noting()
    ended = Ended([taker], fail)
    for number in range(2 * BATCH + 1):
        ended.add(entry(str(number)), float(number))
    assert [len(batch) for batch in taker.batches] == [BATCH, BATCH]
    assert taker.now == 2 * BATCH - 1
    ended.flush(0.0)
    assert taker.batches[2] == [str(2 * BATCH)]


def test_a_taker_that_fails_costs_the_others_nothing_and_is_reported() -> None:
    bugs: list[BaseException] = []
    taker = Noting()
    ended = Ended([Broken(), taker], bugs.append)
    ended.add(entry("a"), 1.0)
    ended.flush(1.0)
    assert taker.batches == [["a"]]
    assert [str(bug) for bug in bugs] == ["a bug"]
    ended.flush(2.0)
    assert taker.batches == [["a"], []]
