"""Counts summed over workers: nothing lost, nothing twice."""

from enginehouse.control.ledger import Count, Ledger
from enginehouse.core.fleet import Report, ServiceCount

SLOT, GENERATION = 7, 99
KEY = (SLOT, GENERATION)


def report(requests: int, worker: int = 0, epoch: int = 1, errors: int = 0, generation: int = GENERATION) -> Report:
    count = ServiceCount(SLOT, generation, requests, errors, requests * 0.5, requests)
    return Report(worker=worker, epoch=epoch, fleet_version=1, counts=(count,))


def requests(*reports: Report) -> int:
    ledger = Ledger()
    for each in reports:
        ledger.add(each)
    return ledger.total(*KEY).requests


def test_requests_are_counted_twice__a_report_that_repeats_a_count_adds_nothing() -> None:
    """Defect: Requests are counted twice."""
    assert requests(report(3), report(3), report(4)) == 4


def test_what_workers_did_so_that_clients_saw_no_failure_is_summed_over_their_lives() -> None:
    ledger = Ledger()
    for worker, epoch, repeated in ((0, 1, 3), (0, 1, 4), (1, 1, 10), (0, 2, 1)):
        ledger.add(Report(worker=worker, epoch=epoch, fleet_version=1, mended={"repeated": repeated, "resumed": 1}))
    assert ledger.mended() == {"repeated": 15, "resumed": 3}


def test_counts_of_all_workers_are_added() -> None:
    assert requests(report(3, worker=0), report(4, worker=1)) == 7


def test_what_a_worker_counted_before_it_was_restarted_is_kept() -> None:
    assert requests(report(3, epoch=1), report(2, epoch=2), report(5, epoch=2)) == 8


def test_counts_that_begin_anew_within_one_life_of_a_worker_are_added_to_the_earlier_ones() -> None:
    assert requests(report(3), report(1), report(2)) == 5


def test_a_late_count_of_another_generation_of_the_slot_is_not_mixed_in() -> None:
    assert requests(report(3), report(100, worker=1, generation=98)) == 3


def test_the_response_time_is_the_mean_time_to_the_first_byte() -> None:
    ledger = Ledger()
    assert ledger.total(*KEY) == Count()
    assert ledger.total(*KEY).response_time == 0.0
    ledger.add(report(4, errors=1))
    assert ledger.total(*KEY) == Count(requests=4, errors=1, answered=4, first_byte_seconds=2.0)
    assert ledger.total(*KEY).response_time == 0.5


def test_counts_of_services_that_are_gone_are_forgotten() -> None:
    ledger = Ledger()
    ledger.add(report(3, epoch=1))
    ledger.add(report(2, epoch=2))
    ledger.forget_except({KEY})
    assert ledger.total(*KEY).requests == 5
    ledger.forget_except(set())
    assert ledger.total(*KEY).requests == 0


def test_every_count_is_added_up_over_workers_and_their_lives() -> None:
    ledger = Ledger()
    counts = ServiceCount(SLOT, GENERATION, 10, 1, 2.5, 6, 3, 4, 5)
    for worker, epoch in ((0, 1), (1, 1), (0, 2)):
        ledger.add(Report(worker=worker, epoch=epoch, fleet_version=1, counts=(counts,)))
    assert ledger.total(*KEY) == Count(30, 3, 18, 7.5, rejections=9, failed=12, ejections=15)
