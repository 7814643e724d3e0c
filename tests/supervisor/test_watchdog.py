"""A frozen worker is replaced soon, one that works without a break later, one that gives signs never."""

from __future__ import annotations

import os
import time

from enginehouse.supervisor.watchdog import BUSY_SILENCE, FIRST_BEAT, SILENCE, Watchdog, cpu_of

PID = 4711


class Cpu:
    """What a process has used, as the test says."""

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.now = 0.0

    def __call__(self, pid: int) -> float | None:
        assert pid == PID
        return None if self.share is None else self.now * self.share


def replaced_after(share: float | None, beats_until: float, worker: int = 0) -> tuple[float, float]:
    """(when it is replaced, the limit told), looked at four times a second; it beats until `beats_until`."""
    cpu = Cpu(share)
    watchdog = Watchdog(cpu)
    for look in range(1, 200):
        cpu.now = now = look / 4
        beat = min(now, beats_until) if beats_until else 0.0
        limit = watchdog.overdue(worker, PID, beat, 0.0, now)
        if limit:
            return now, limit
    return 0.0, 0.0


def test_a_worker_that_gives_signs_of_life_stays_however_busy_it_is() -> None:
    assert replaced_after(1.0, beats_until=1000.0) == (0.0, 0.0)


def test_a_frozen_worker_uses_no_cpu_and_is_replaced_soon() -> None:
    assert replaced_after(0.0, beats_until=5.0) == (5.0 + SILENCE + 0.25, SILENCE)


def test_a_worker_that_is_silent_because_it_is_overloaded_gets_more_time() -> None:
    assert replaced_after(0.5, beats_until=5.0) == (5.0 + BUSY_SILENCE + 0.25, BUSY_SILENCE)


def test_where_the_system_does_not_tell_silence_is_silence() -> None:
    assert replaced_after(None, beats_until=5.0) == (5.0 + SILENCE + 0.25, SILENCE)


def test_a_worker_that_starts_gets_its_time_for_the_first_sign() -> None:
    assert replaced_after(1.0, beats_until=0.0) == (FIRST_BEAT + 0.25, FIRST_BEAT)


def test_each_worker_is_judged_by_its_own_signs() -> None:
    cpu = Cpu(0.0)
    watchdog = Watchdog(cpu)
    for now in (8.0, 9.0, 10.0):
        limits = [watchdog.overdue(worker, PID, beat, 0.0, now) for worker, beat in ((0, now), (1, 7.0))]
    assert limits == [0.0, SILENCE]


def test_the_system_tells_what_a_process_has_used() -> None:
    before = cpu_of(os.getpid())
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = cpu_of(os.getpid())
    assert before is not None
    assert after is not None
    assert after > before
    assert cpu_of(2**22 + 1) is None
