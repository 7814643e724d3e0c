"""Sums over workers and over everybody's deaths: nothing is lost, nothing counted twice, and no counter ever falls."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.control import measured
from enginehouse.control.measured import Measured
from enginehouse.core.fleet import Report
from enginehouse.core.metrics import METRICS, Series
from enginehouse.core.shared import MAX_KEPT, SIZE, Shared

ANSWERED = ("m", "a", "answered", "2xx")


def requests(count: float, service: str = "a") -> Series:
    return ("requests_total", ("m", service, "answered", "2xx"), (count,))


def report(*series: Series, worker: int = 0, epoch: int = 1, gauges: tuple[Series, ...] = (), pid: int = 7) -> Report:
    return Report(worker=worker, epoch=epoch, fleet_version=1, pid=pid, measures=series, gauges=gauges)


def total(sums: Measured) -> float:
    return sum(values[0] for values in sums.sums.get("requests_total", {}).values())


@pytest.fixture
def shared() -> Shared:
    return Shared(memoryview(mmap.mmap(-1, SIZE)))


def test_all_workers_are_summed() -> None:
    sums = Measured()
    for worker in range(3):
        sums.add(report(requests(10 + worker), worker=worker))
    assert sums.sums["requests_total"] == {ANSWERED: (33,)}


def test_histograms_are_summed_bucket_by_bucket() -> None:
    sums = Measured()
    size = METRICS["queue_seconds"].size
    for worker in range(2):
        values = (worker + 1, *[0] * (size - 3), 4, 0.5)
        sums.add(report(("queue_seconds", ("m",), values), worker=worker))
    assert sums.sums["queue_seconds"] == {("m",): (3, *[0] * (size - 3), 8, 1.0)}


def test_reports_are_cumulative_so_a_lost_one_costs_nothing_and_one_that_comes_twice_adds_nothing() -> None:
    sums = Measured()
    for count in (5, 9, 9):
        sums.add(report(requests(count)))
    assert total(sums) == 9


def test_a_worker_that_was_killed_leaves_its_counts_and_its_successor_adds_to_them() -> None:
    sums = Measured()
    sums.add(report(requests(100)))
    sums.add(report(requests(3), epoch=2))
    sums.add(report(requests(5), epoch=2))
    assert total(sums) == 105
    sums.add(report(requests(50), epoch=3))
    assert total(sums) == 155, "also where the successor has more to tell at once"


def test_counts_of_one_worker_that_begin_anew_are_added() -> None:
    """It forgot a service that was gone for long, and that has come back."""
    sums = Measured()
    sums.add(report(requests(100)))
    sums.add(report(requests(2)))
    sums.add(report(requests(4)))
    assert total(sums) == 104


def test_what_another_version_of_a_worker_tells_is_left_out() -> None:
    sums = Measured()
    sums.add(report(("invented_total", (), (1,)), ("requests_total", ("m",), (1,)), ("queue_seconds", ("m",), (1,))))
    assert sums.sums == {}


def test_gauges_are_those_of_the_workers_that_are_connected_summed_where_their_labels_are_the_same() -> None:
    sums = Measured()
    for worker in range(3):
        own: tuple[Series, ...] = (("connections", (str(worker),), (worker,)), ("queue_length", ("m",), (2,)))
        sums.add(report(worker=worker, gauges=own))
    sums.add(report(requests(1), worker=0))
    found = sums.gauges({0, 2})
    assert found == {("connections", ("0",)): 0, ("connections", ("2",)): 2, ("queue_length", ("m",)): 4}
    assert sums.pid(0) == 7
    assert sums.pid(9) == 0


def test_a_service_that_is_gone_is_shown_a_while_longer_and_forgotten_then() -> None:
    sums = Measured()
    sums.add(report(requests(3), requests(4, "b"), ("ejections_total", ("b",), (1,)), requests(1, "")))
    sums.forget_except({"a"}, 1000.0)
    sums.forget_except({"a"}, 1000.0 + measured.KEEP - 1)
    assert total(sums) == 8
    sums.forget_except({"a"}, 1000.0 + measured.KEEP)
    assert total(sums) == 4
    assert sums.sums["ejections_total"] == {}
    sums.add(report(requests(2, "b"), epoch=2))
    assert total(sums) == 6, "one of this name may come back"


def test_a_service_that_comes_back_in_time_goes_on_where_it_was() -> None:
    sums = Measured()
    sums.add(report(requests(3)))
    sums.forget_except((), 1000.0)
    sums.forget_except({"a"}, 1100.0)
    sums.forget_except((), 1200.0)
    sums.forget_except((), 1200.0 + measured.KEEP - 1)
    sums.add(report(requests(5)))
    assert total(sums) == 5


# control's own death


def test_a_control_that_is_restarted_goes_on_with_what_was_shown_and_adds_what_came_since(shared: Shared) -> None:
    before = Measured(shared.keep, shared.kept)
    before.recall()
    before.add(report(requests(100), worker=0))
    before.add(report(requests(50), worker=1))
    before.add(report(requests(1), worker=1, epoch=2))
    before.keep()  # what is shown now is kept
    before.add(report(requests(110), worker=0))
    after = Measured(shared.keep, shared.kept)
    after.recall()
    assert total(after) == 151
    after.add(report(requests(120), worker=0))
    after.add(report(requests(2), worker=1, epoch=2))
    assert total(after) == 172, "nobody is counted twice, the worker that died meanwhile not forgotten"


def test_without_anything_kept_or_with_nonsense_it_begins_anew(shared: Shared) -> None:
    sums = Measured(shared.keep, shared.kept)
    sums.recall()
    assert sums.sums == {}
    shared.keep(b"nonsense")
    sums.recall()
    assert sums.sums == {}


def test_nothing_is_kept_while_nothing_changes() -> None:
    kept: list[bytes] = []
    sums = Measured(kept.append)
    sums.keep()
    sums.add(report(requests(1)))
    sums.keep()
    sums.add(report(requests(1)))
    sums.keep()
    assert len(kept) == 1


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["count", "count", "die", "show", "restart"])), max_size=60)
)
def test_no_counter_that_was_shown_ever_falls_and_every_report_counts_once(events: list[tuple[int, str]]) -> None:
    memory = [b""]

    def keep(state: bytes) -> None:
        memory[0] = state

    def begin() -> Measured:
        made = Measured(keep, lambda: memory[0])
        made.recall()
        for worker, (epoch, count) in enumerate(workers):
            made.add(report(requests(count), worker=worker, epoch=epoch))
        return made

    workers = [(1, 0), (1, 0), (1, 0)]
    reported, shown = 0, 0.0
    sums = begin()
    for worker, event in events:
        epoch, count = workers[worker]
        if event == "count":
            workers[worker] = epoch, count + 1
            reported += 1
            sums.add(report(requests(count + 1), worker=worker, epoch=epoch))
        elif event == "die":
            workers[worker] = epoch + 1, 0
        elif event == "show":
            sums.keep()
            assert total(sums) >= shown
            shown = total(sums)
        else:
            sums = begin()
            assert total(sums) >= shown
        assert total(sums) <= reported


# the memory it is kept in


def test_what_is_kept_last_is_what_is_recalled_and_a_half_written_one_is_not(shared: Shared) -> None:
    assert shared.kept() == b""
    for state in (b"one", b"two" * 1000, b"3"):
        assert shared.keep(state)
        assert shared.kept() == state
    newest = max(shared._kept, key=shared._kept_number)
    newest[16:17] = b"x"  # its writer died
    assert shared.kept() == b"two" * 1000
    assert shared.keep(b"four")
    assert shared.kept() == b"four"


def test_what_is_too_long_is_not_kept_and_what_was_stays(shared: Shared) -> None:
    assert shared.keep(b"short")
    assert not shared.keep(bytes(MAX_KEPT + 1))
    assert shared.kept() == b"short"
