"""How often control hears of the counts: with every sweep in a small house, more seldom in a large one."""

from __future__ import annotations

import mmap
from typing import Any, cast

import pytest

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.control_link import ControlLink
from enginehouse.data.worker import Worker

SWEEPS_A_SECOND = 4


class Wire:
    """The transport to control: counts what is written."""

    def __init__(self) -> None:
        self.frames = 0

    def write(self, data: bytes) -> None:
        self.frames += 1

    def get_write_buffer_size(self) -> int:
        return 0


def service(slot: int) -> Service:
    name = f"s{slot}"
    return Service(
        name=name, slot=slot, generation=1, host=name, addresses=("127.0.0.1",), port=80, models=("m",), up=True
    )


def reports_in_ten_seconds(services: int, busy: bool = True) -> int:
    worker = Worker(RouterConfig(), Shared(memoryview(mmap.mmap(-1, SIZE))), 0, "/nonexistent/api")
    fleet = tuple(service(slot) for slot in range(services))
    worker.use_fleet(Fleet(version=1, synced=True, services=fleet))
    link, wire = ControlLink(worker), Wire()
    link.connection_made(cast("Any", wire))
    worker.reports.link = link
    now = 1000.0
    worker.now = lambda: now
    for _ in range(10 * SWEEPS_A_SECOND):
        now += 1 / SWEEPS_A_SECOND
        if busy:
            worker.counters.take(fleet[0])
            worker.counters.release(fleet[0], Outcome.ANSWERED, 0.1, now)
        worker.beat()
    return wire.frames


@pytest.mark.parametrize(("services", "reports"), [(1, 40), (249, 40), (500, 20), (1000, 10)])
def test_a_busy_worker_reports_the_more_seldom_the_more_there_is_to_tell(services: int, reports: int) -> None:
    assert reports_in_ten_seconds(services) == reports


def test_a_worker_without_requests_reports_how_it_is_once_and_is_silent_then() -> None:
    assert reports_in_ten_seconds(2, busy=False) == 1


def test_a_control_that_is_met_anew_is_told_everything_measured_and_how_the_worker_is() -> None:
    worker = Worker(RouterConfig(), Shared(memoryview(mmap.mmap(-1, SIZE))), 0, "/nonexistent/api")
    worker.measures.tries("a").answered += 1
    first, second = worker.reports.make(), worker.reports.make()
    assert ("attempts_total", ("a", "answered"), (1,)) in first.measures
    assert second.measures == ()
    worker.reports.meet(ControlLink(worker))
    again = worker.reports.make()
    assert set(again.measures) == set(first.measures)
    assert {name for name, _, _ in again.gauges} == {"connections", "idle_engine_connections"}
