"""The health machine: what each event does to a service, as small plays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.machines.health import (
    FIRST_DELAY,
    TABLE,
    Confirmed,
    Ejected,
    Event,
    Health,
    Probe,
    ProbeFailed,
    ProbePassed,
    Readmit,
    RequestsFailed,
    State,
    Withdrawn,
)

REFUSED = ProbeFailed("connection refused", refused=True)
SLOW = ProbeFailed("no answer within 5 s")
STOPPED = Withdrawn("stopped")
EVENTS: list[Event] = [ProbePassed(), REFUSED, SLOW, RequestsFailed(), Ejected(30.0), Confirmed(), STOPPED]


def play(*events: Event, now: float = 0.0, max_errors: int = 3) -> Health:
    health = Health(max_errors)
    for event in events:
        health.handle(event, now)
    return health


def test_a_new_service_is_up_as_soon_as_its_first_probe_passes() -> None:
    assert play().up is False
    assert play(ProbePassed()).state is State.UP


def test_a_new_service_whose_first_probe_fails_is_down() -> None:
    assert play(SLOW).state is State.DOWN


def test_a_service_its_babysitter_has_just_registered_is_up_before_any_probe_and_is_probed() -> None:
    health = play()
    assert health.handle(Confirmed(), 0.0) == [Readmit(), Probe()]
    assert health.up


def test_a_confirmed_service_nobody_listens_for_is_down_after_one_probe() -> None:
    assert play(Confirmed(), REFUSED).state is State.DOWN


def test_a_service_goes_down_after_max_errors_failed_probes_in_a_row() -> None:
    assert play(ProbePassed(), SLOW, SLOW).state is State.UP
    assert play(ProbePassed(), SLOW, SLOW, SLOW).state is State.DOWN
    assert play(ProbePassed(), SLOW, SLOW, ProbePassed(), SLOW, SLOW).state is State.UP


def test_one_refused_probe_out_of_the_blue_does_not_take_a_service_down() -> None:
    assert play(ProbePassed(), REFUSED).state is State.UP


def test_one_transport_error_benches_a_service__one_failed_request_only_asks_for_a_probe() -> None:
    """Defect: One transport error benches a service."""
    health = play(ProbePassed())
    assert health.handle(RequestsFailed(), 0.0) == [Probe()]
    assert health.state is State.UP
    health.handle(ProbePassed(), 0.1)
    assert health.state is State.UP


def test_a_failed_request_and_a_refused_probe_together_take_a_service_down_at_once() -> None:
    assert play(ProbePassed(), RequestsFailed(), REFUSED).state is State.DOWN


def test_a_suspicion_is_over_when_a_probe_passed() -> None:
    assert play(ProbePassed(), RequestsFailed(), ProbePassed(), REFUSED).state is State.UP


def test_a_service_that_was_down_is_up_at_once_when_a_probe_passes_and_its_ejection_ends() -> None:
    health = play(ProbePassed(), RequestsFailed(), Ejected(30.0), REFUSED)
    assert not health.up
    assert health.handle(ProbePassed(), 2.0) == [Readmit(slowly=True)]
    assert health.state is State.UP


def test_an_ejected_service_whose_probes_pass_stays_ejected_until_its_time_is_over() -> None:
    health = play(ProbePassed(), Ejected(30.0))
    assert health.handle(ProbePassed(), 29.0) == []
    assert health.reason != ""
    assert health.handle(ProbePassed(), 30.0) == []
    assert health.state is State.UP


def test_an_ejected_service_is_still_sent_to_the_workers_as_up_because_they_keep_the_deadline_themselves() -> None:
    assert play(ProbePassed(), Ejected(30.0)).up


def test_a_later_ejection_prolongs_an_earlier_one_and_an_earlier_one_changes_nothing() -> None:
    health = play(ProbePassed(), Ejected(30.0), Ejected(50.0), Ejected(40.0))
    assert health.until == 50.0


def test_a_withdrawn_service_is_not_brought_back_by_a_probe_but_by_its_registration() -> None:
    health = play(ProbePassed(), STOPPED, ProbePassed())
    assert health.state is State.WITHDRAWN
    assert "stopped" in health.reason
    assert health.handle(Confirmed(), 0.0) == [Readmit(slowly=True), Probe()]
    assert health.up


def test_health_flaps__a_registration_does_not_lift_the_verdict_of_a_probe() -> None:
    """Defect: Health flaps: the sync sets bad ones back to healthy."""
    health = play(SLOW)
    assert health.handle(Confirmed(), 0.0) == [Probe()]
    assert health.state is State.DOWN


def test_a_failing_service_is_probed_more_often_than_others_but_ever_more_seldom() -> None:
    health = play(SLOW)
    delays = []
    for _ in range(20):
        delays.append(health.probe_delay(0.0, 30.0))
        health.handle(SLOW, 0.0)
    assert delays[0] == FIRST_DELAY
    assert delays == sorted(delays)
    assert delays[-1] == 30.0
    # Down for T seconds, it is probed again before another T/2 seconds and the first delay have passed.
    for at in range(1, 10):
        assert delays[at] <= sum(delays[:at]) / 2 + FIRST_DELAY


def test_a_healthy_service_is_probed_at_the_usual_interval_and_an_ejected_one_when_its_time_is_over() -> None:
    assert play(ProbePassed()).probe_delay(0.0, 30.0) == 30.0
    assert play(ProbePassed(), Ejected(8.0)).probe_delay(1.0, 30.0) == 7.0
    assert play(ProbePassed(), Ejected(8.0)).probe_delay(7.99, 30.0) == FIRST_DELAY


def test_every_state_knows_every_event() -> None:
    kinds = {type(event) for event in EVENTS}
    assert set(TABLE) == {(state, kind) for state in State for kind in kinds}


@pytest.mark.parametrize("max_errors", [1, 3])
@given(events=st.lists(st.sampled_from(EVENTS)), data=st.data())
def test_in_any_order_of_events_two_laws_hold(max_errors: int, events: list[Event], data: st.DataObject) -> None:
    health = Health(max_errors)
    now = 0.0
    for event in events:
        now += data.draw(st.floats(0, 20))
        before = health.state
        health.handle(event, now)
        if not health.up and before in (State.UP, State.EJECTED):
            assert isinstance(event, ProbeFailed | Withdrawn), "only a failed probe or its own word takes it out"
        if health.up and before in (State.DOWN, State.UNKNOWN, State.WITHDRAWN):
            assert isinstance(event, ProbePassed | Confirmed), "only a passed probe or a registration brings it back"
        assert 0 < health.probe_delay(now, 30.0) <= 30.0
