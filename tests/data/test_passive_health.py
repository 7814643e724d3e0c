"""What attempts show of the services, as two workers see it who share one memory: with a clock that the test holds."""

from __future__ import annotations

import mmap
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service, ServiceCount
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.counters import EJECTED, Counters
from enginehouse.data.measures import Measures
from enginehouse.data.passive_health import MAX_REST, USUAL_REST
from enginehouse.policy.candidates import candidates
from enginehouse.policy.ejection import TRIAL
from enginehouse.policy.outliers import LEAST, TICK, TICKS

BROKE, ANSWERED, REJECTED, LEFT = (
    Outcome.BROKE_BEFORE_HEAD,
    Outcome.ANSWERED,
    Outcome.REJECTED,
    Outcome.CLIENT_LEFT,
)


class House:
    """Some services, two workers, one clock."""

    def __init__(self, services: int = 2, **settings: Any) -> None:
        self.now = 1000.0
        self.shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
        config = RouterConfig(**{"max_errors": 3, "ejection_time": 30.0} | settings)
        self.workers = [Counters(self.shared, index, config, lambda: self.now, Measures(index)) for index in range(2)]
        self.services = tuple(service(slot) for slot in range(services))
        for worker in self.workers:
            worker.use({member.slot: member for member in self.services})

    def attempt(self, outcome: Outcome, slot: int = 0, worker: int = 0, **how: Any) -> bool:
        """One that begins and ends at once."""
        self.workers[worker].take(self.services[slot])
        return self.end(outcome, slot, worker, **how)

    def end(self, outcome: Outcome, slot: int = 0, worker: int = 0, **how: Any) -> bool:
        first_byte = 0.1 if outcome is ANSWERED else -1.0
        return self.workers[worker].release(self.services[slot], outcome, first_byte, self.now, **how)

    def candidates(self) -> list[int]:
        """Slots of those that may get a request now, for any worker."""
        return [s.slot for s in candidates(self.services, (), self.shared, self.now, Random(1), 0, "")]

    def put_out(self, slot: int = 0) -> None:
        for _ in range(3):
            self.attempt(BROKE, slot)
        assert self.shared.ejected_until[slot] > self.now

    def due(self, slot: int = 0) -> None:
        """Put out, and its time is over."""
        self.put_out(slot)
        self.now = self.shared.ejected_until[slot]

    def traffic(self, slot: int, ended: int, failed: int, worker: int = 0) -> None:
        for number in range(ended):
            self.attempt(ANSWERED, slot, worker, failed=number < failed)

    def tick(self) -> None:
        self.now += TICK
        for worker in self.workers:
            worker.tick(self.now)

    def count(self, slot: int = 0, worker: int = 0) -> ServiceCount:
        return next(c for c in self.workers[worker].report(1, 1).counts if c.slot == slot)


def service(slot: int, **fields: Any) -> Service:
    given: dict[str, Any] = {
        "generation": 1,
        "host": "h",
        "addresses": ("127.0.0.1",),
        "port": 1,
        "up": True,
        "models": ("m",),
    }
    return Service(name=f"s{slot}", slot=slot, **given | fields)


# -- failures in a row -------------------------------------------------------------------------------------------------


def test_failures_in_a_row_put_a_service_out_for_every_worker_whichever_workers_they_met() -> None:
    house = House()
    house.attempt(BROKE, worker=0)
    house.attempt(BROKE, worker=1)
    assert house.candidates() == [0, 1]
    house.attempt(BROKE, worker=0)
    assert house.candidates() == [1]
    assert house.shared.ejected_until[0] == house.now + 30


def test_an_answer_in_between_begins_the_count_anew_whichever_worker_got_it() -> None:
    house = House()
    for _ in range(3):
        house.attempt(BROKE)
        house.attempt(BROKE)
        house.attempt(ANSWERED, worker=1)
    assert house.candidates() == [0, 1]


def test_a_5xx_or_a_rejection_or_a_client_that_left_is_neither_a_failure_in_a_row_nor_the_end_of_one() -> None:
    house = House()
    for _ in range(5):
        house.attempt(ANSWERED, failed=True)
        house.attempt(REJECTED)
        house.attempt(LEFT)
    assert house.candidates() == [0, 1]
    house.attempt(BROKE)
    house.attempt(ANSWERED, failed=True)
    house.attempt(BROKE)
    house.attempt(REJECTED)
    house.attempt(LEFT)
    house.attempt(BROKE)
    assert house.candidates() == [1]


def test_what_was_under_way_when_its_service_was_put_out_makes_it_no_worse() -> None:
    house = House()
    for _ in range(20):
        house.workers[1].take(house.services[0])
    house.put_out()
    for _ in range(20):
        house.end(BROKE, worker=1)
    assert house.shared.levels[0] == 1
    assert house.count(0, worker=1).errors == 20
    assert house.shared.streaks[0] == 0


def test_never_more_than_the_share_of_the_services_is_put_out_but_of_one_or_two_one_may_be() -> None:
    for size, most in ((1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)):
        house = House(size)
        for slot in range(size):
            for _ in range(3):
                house.attempt(BROKE, slot)
        assert sum(house.shared.ejected_until[slot] > house.now for slot in range(size)) == most


def test_a_service_that_is_down_for_control_counts_for_nothing_and_is_not_put_out() -> None:
    house = House(4)
    down = service(3, up=False)
    for worker in house.workers:
        worker.use({**{s.slot: s for s in house.services}, 3: down})
    for slot in (3, 0, 1):
        for _ in range(3):
            house.attempt(BROKE, slot)
    assert [house.shared.ejected_until[slot] > 0 for slot in range(4)] == [True, False, False, False]


def test_ejections_can_be_switched_off() -> None:
    house = House(max_ejected=0.0)
    for _ in range(9):
        house.attempt(BROKE)
    assert house.candidates() == [0, 1]


# -- blame held back ---------------------------------------------------------------------------------------------------


def test_blame_that_is_held_back_counts_when_it_is_charged_and_control_looks_at_once() -> None:
    house = House()
    for _ in range(3):
        assert house.attempt(BROKE, charge=False)
    assert house.candidates() == [0, 1]
    report = house.workers[0].report(1, 1)
    assert [failure.outcome for failure in report.failures] == [BROKE.value] * 3
    assert (report.counts[0].requests, report.counts[0].errors) == (3, 0)
    for _ in range(3):
        house.workers[0].charge(house.services[0], BROKE, house.now)
    assert house.candidates() == [1]
    assert house.count().errors == 3
    house.attempt(BROKE, slot=1, charge=False)
    house.workers[0].charge(house.services[1], BROKE, house.now)
    house.tick()
    assert house.shared.noted(1) == (1, 1)


def test_blame_that_is_held_back_does_not_decide_a_trial_before_it_is_charged() -> None:
    house = House()
    house.due()
    house.attempt(BROKE, charge=False)
    assert house.shared.levels[0] == 1
    house.workers[0].charge(house.services[0], BROKE, house.now)
    assert house.shared.levels[0] == 2


# -- the trial ---------------------------------------------------------------------------------------------------------


def test_after_its_time_one_request_tries_and_no_worker_lets_another_one_through() -> None:
    house = House()
    house.due()
    assert house.candidates() == [0, 1]
    house.workers[0].take(house.services[0])
    assert house.candidates() == [1]
    house.end(ANSWERED)
    assert house.shared.slow_until[0] == house.now + 10
    assert house.candidates() in ([1], [0, 1])
    assert not house.workers[0].trials


def test_a_trial_that_fails_puts_the_service_out_for_twice_as_long() -> None:
    house = House()
    house.due()
    house.attempt(BROKE)
    assert house.shared.ejected_until[0] == house.now + 60
    house.now += 60
    house.attempt(ANSWERED, failed=True)
    assert house.shared.ejected_until[0] == house.now + 120
    assert house.count().ejections == 3


@pytest.mark.parametrize("outcome", [LEFT, REJECTED, Outcome.CUT_AT_STOP])
def test_a_trial_that_shows_nothing_is_repeated_with_the_next_request(outcome: Outcome) -> None:
    house = House()
    house.due()
    house.attempt(outcome)
    assert house.candidates() == [0, 1]
    assert house.shared.levels[0] == 1
    house.attempt(BROKE)
    assert house.shared.levels[0] == 2


def test_a_trial_on_a_connection_that_had_been_closed_is_repeated() -> None:
    house = House()
    house.due()
    house.workers[0].take(house.services[0])
    house.workers[0].release_uncounted(house.services[0])
    assert house.candidates() == [0, 1]


def test_a_trial_whose_worker_died_or_that_takes_too_long_is_followed_by_another_one() -> None:
    house = House()
    house.due()
    house.workers[0].take(house.services[0])
    house.now += TRIAL
    assert house.candidates() == [0, 1]
    house.workers[1].take(house.services[0])
    assert house.candidates() == [1]
    house.end(ANSWERED, worker=1)
    assert house.shared.ejected_until[0] == 0
    house.end(BROKE, worker=0)  # the first one, at last
    assert house.shared.levels[0] == 1


def test_a_trial_that_ends_when_its_service_counts_as_ordinary_again_is_a_request_like_any_other() -> None:
    for outcome in (ANSWERED, BROKE):
        house = House()
        house.due()
        house.workers[0].take(house.services[0])
        house.now += 2 * TRIAL
        house.end(outcome)
        assert house.candidates() == [0, 1]
        assert house.shared.slow_until[0] == 0
        assert house.shared.streaks[0] == (outcome is BROKE)


def test_the_end_of_a_trial_that_another_workers_has_replaced_does_not_end_that_one() -> None:
    house = House()
    house.due()
    house.workers[0].take(house.services[0])
    house.now += TRIAL
    house.workers[1].take(house.services[0])
    until = house.shared.ejected_until[0]
    house.end(LEFT, worker=0)
    assert house.shared.ejected_until[0] == until


def test_where_no_request_comes_it_counts_as_ordinary_again() -> None:
    house = House()
    house.due()
    house.now += TRIAL
    house.workers[0].take(house.services[0])
    assert house.candidates() == [0, 1]
    house.end(BROKE)
    assert house.shared.levels[0] == 1


def test_where_all_are_out_all_are_used_and_an_answer_brings_its_service_back() -> None:
    house = House(1)
    house.put_out()
    assert house.candidates() == [0]
    house.attempt(BROKE)
    assert house.shared.levels[0] == 1
    house.attempt(ANSWERED)
    assert house.shared.ejected_until[0] == 0


def test_what_is_long_ago_is_forgotten() -> None:
    house = House()
    house.due()
    house.attempt(ANSWERED)
    house.now += 299
    house.attempt(ANSWERED)
    assert house.shared.levels[0] == 1
    house.now += 1
    house.attempt(ANSWERED)
    assert house.shared.levels[0] == 0


def test_a_slot_given_to_another_service_has_no_trial_any_more() -> None:
    house = House()
    house.due()
    house.workers[0].take(house.services[0])
    house.shared.readmit(0)
    house.end(BROKE)
    assert house.shared.levels[0] == 0


# -- rest --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "rests"), [(-1.0, USUAL_REST), (0.0, 0.0), (3.0, 3.0), (3600.0, MAX_REST)])
def test_an_engine_that_rejects_rests_as_long_as_it_says_within_a_bound(asked: float, rests: float) -> None:
    house = House()
    house.workers[0].rest(house.services[0], asked, house.now)
    assert house.candidates() == ([1] if rests else [0, 1])
    house.now += rests
    assert house.candidates() == [0, 1]
    assert house.shared.levels[0] == 0


# -- compared with the others ------------------------------------------------------------------------------------------


def test_a_service_that_answers_5xx_far_more_often_than_the_others_is_put_out() -> None:
    house = House(3)
    for slot in range(3):
        house.traffic(slot, 40, 30 if slot == 0 else 1)
    assert house.candidates() == [0, 1, 2]
    house.tick()
    assert house.candidates() == [1, 2]
    report = house.workers[0].report(1, 1)
    assert [failure.outcome for failure in report.failures] == [EJECTED]
    assert {count.slot: (count.failed, count.ejections) for count in report.counts} == {
        0: (30, 1),
        1: (1, 0),
        2: (1, 0),
    }


def test_where_requests_fail_the_next_sweep_compares_and_not_the_next_second() -> None:
    house = House(2)
    house.tick()
    house.traffic(0, 40, 40)
    house.traffic(1, 40, 0)
    house.now += TICK / 4
    house.workers[0].tick(house.now)
    assert house.candidates() == [1]


def test_what_the_workers_saw_is_added_up() -> None:
    house = House(2)
    half = LEAST // 2
    for worker in range(2):
        house.traffic(0, half, half, worker)
        house.traffic(1, half, 0, worker)
    house.tick()
    assert house.candidates() == [1]
    assert house.shared.levels[0] == 1


def test_what_two_workers_notice_at_once_counts_once() -> None:
    house = House(2)
    for worker in range(2):
        house.traffic(0, 40, 40, worker)
        house.traffic(1, 40, 1, worker)
    house.tick()
    assert house.shared.levels[0] == 1
    house.tick()
    assert house.shared.levels[0] == 1
    assert house.shared.noted(0) == (0, 0)


def test_where_all_fail_nobody_is_put_out() -> None:
    house = House(3)
    for slot in range(3):
        house.traffic(slot, 50, 50)
    house.tick()
    assert house.candidates() == [0, 1, 2]


def test_of_more_outliers_than_may_be_out_the_worst_are() -> None:
    house = House(4)
    for slot, failed in enumerate((60, 0, 0, 100)):
        house.traffic(slot, 100, failed)
    house.traffic(1, 300, 0)
    house.traffic(2, 300, 0)
    house.tick()
    assert house.candidates() == [1, 2]
    house = House(3)
    for slot, failed in enumerate((60, 0, 100)):
        house.traffic(slot, 100 if failed else 600, failed)
    house.tick()
    assert house.candidates() == [0, 1]


def test_what_is_longer_ago_than_the_window_counts_no_more() -> None:
    house = House(2)
    house.traffic(0, LEAST, LEAST)
    for _ in range(TICKS):
        house.tick()
    house.traffic(1, 100, 0)
    house.tick()
    assert house.candidates() == [0, 1]


def test_the_window_is_as_long_however_often_the_services_are_compared() -> None:
    house = House(2)
    for _ in range(TICKS - 1):
        house.attempt(ANSWERED, failed=True)
        for _ in range(4):
            house.now += TICK / 4
            house.workers[0].tick(house.now)
    assert house.shared.noted(0) == (TICKS - 1, TICKS - 1)


def test_what_put_it_out_does_not_put_it_out_again_when_it_is_back() -> None:
    house = House(2, ejection_time=2.0, slow_start=0.0)
    house.traffic(0, 40, 40)
    house.traffic(1, 40, 0)
    house.tick()
    assert house.candidates() == [1]
    house.tick()
    house.tick()
    house.attempt(ANSWERED)
    house.traffic(1, 40, 0)
    house.tick()
    assert house.candidates() == [0, 1]
    assert house.shared.levels[0] == 1


def test_rejections_clients_that_left_and_blame_held_back_show_nothing() -> None:
    house = House(2)
    house.traffic(1, 40, 0)
    for _ in range(40):
        house.attempt(REJECTED)
        house.attempt(LEFT)
        house.attempt(BROKE, charge=False)
    house.tick()
    assert house.candidates() == [0, 1]
    assert house.shared.noted(0) == (0, 0)
    assert house.count().rejections == 40


def test_counts_of_a_service_that_is_gone_are_not_held_against_the_next_one_in_its_slot() -> None:
    house = House(2)
    house.traffic(0, 40, 40)
    house.workers[0].tick(house.now)
    assert house.shared.noted(0) != (0, 0) or house.shared.levels[0]
    house.shared.readmit(0)
    for worker in house.workers:
        worker.use({0: service(0, generation=2), 1: house.services[1]})
    assert house.shared.noted(0) == (0, 0)
    house.traffic(1, 40, 0)
    house.tick()
    assert house.candidates() == [0, 1]


# -- any order ---------------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Attempts of two workers begin and end in any order, time passes, control readmits."""

    SERVICES = 4

    def __init__(self) -> None:
        super().__init__()
        self.house = House(self.SERVICES, ejection_time=4.0, max_ejection_time=20.0, slow_start=3.0)
        self.running: list[tuple[int, int]] = []
        self.held: list[tuple[int, int]] = []

    @rule(worker=st.integers(0, 1), pick=st.integers(0, 99))
    def begin(self, worker: int, pick: int) -> None:
        house = self.house
        found = house.candidates()
        slot = found[pick % len(found)]
        standing = house.shared.standing(slot)
        house.workers[worker].take(house.services[slot])
        self.running.append((worker, slot))
        if standing.ejected_until <= house.now < standing.undecided_until:
            assert house.shared.ejected_until[slot] == house.now + TRIAL, "a trial keeps others away"

    @precondition(lambda self: self.running)
    @rule(
        pick=st.integers(0, 99),
        outcome=st.sampled_from([ANSWERED, ANSWERED, BROKE, BROKE, REJECTED, LEFT, None]),
        failed=st.booleans(),
        charge=st.booleans(),
    )
    def end(self, pick: int, outcome: Outcome | None, failed: bool, charge: bool) -> None:
        worker, slot = self.running.pop(pick % len(self.running))
        house = self.house
        before = house.shared.standing(slot)
        if outcome is None:
            house.workers[worker].release_uncounted(house.services[slot])
        else:
            blames = house.end(outcome, slot, worker, failed=failed, charge=charge)
            assert blames == outcome.row.blames
            if blames and not charge:
                self.held.append((worker, slot))
            if outcome is REJECTED:
                house.workers[worker].rest(house.services[slot], -1.0, house.now)
        after = house.shared.standing(slot)
        assert after.level <= before.level + 1
        if outcome in (LEFT, REJECTED, None) or (outcome is BROKE and not charge):
            assert after.level == before.level, "nobody is put out for this"
        if outcome is ANSWERED and not failed:
            assert after.ejected_until <= before.ejected_until

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99))
    def charge(self, pick: int) -> None:
        worker, slot = self.held.pop(pick % len(self.held))
        self.house.workers[worker].charge(self.house.services[slot], BROKE, self.house.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.house.now += seconds
        for worker in self.house.workers:
            worker.tick(self.house.now)

    @rule(slot=st.integers(0, SERVICES - 1))
    def readmit(self, slot: int) -> None:
        self.house.shared.readmit(slot)

    @invariant()
    def somebody_is_always_a_candidate(self) -> None:
        assert self.house.candidates()

    @invariant()
    def at_most_half_are_out(self) -> None:
        house = self.house
        out = [slot for slot in range(self.SERVICES) if house.shared.undecided_until[slot] > house.now]
        assert len(out) <= self.SERVICES // 2

    @invariant()
    def nobody_is_out_for_longer_than_the_longest_time(self) -> None:
        shared, now = self.house.shared, self.house.now
        for slot in range(self.SERVICES):
            assert shared.ejected_until[slot] <= now + 20.0
            assert shared.rest_until[slot] <= now + MAX_REST
            latest = max(shared.ejected_until[slot], shared.rest_until[slot], shared.slow_until[slot])
            assert latest <= shared.latest_ejection[0] or latest <= now

    @invariant()
    def loads_are_what_is_running(self) -> None:
        for worker in range(2):
            for slot in range(self.SERVICES):
                assert self.house.shared.loads[worker][slot] == self.running.count((worker, slot))

    def teardown(self) -> None:
        """Whatever has happened: left alone for long enough, everybody is a candidate."""
        house = self.house
        for worker, slot in self.running:
            house.end(LEFT, slot, worker)
        house.now += 20.0 + 2 * TRIAL
        assert house.candidates() == list(range(self.SERVICES))
        assert sum(sum(row[: self.SERVICES]) for row in house.shared.loads) == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
