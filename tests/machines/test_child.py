"""The machine of a supervised process, as transcripts: what happened, what is to be done, and the state it leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.config.babysitter import BabysitterLimits
from enginehouse.machines.child import (
    TABLE,
    Child,
    Command,
    Drain,
    Event,
    GiveUp,
    Kill,
    Publish,
    Spawn,
    State,
    Terminate,
    Withdraw,
)

LIMITS = BabysitterLimits(
    max_restarts=4,
    restart_delay=1.0,
    max_restart_delay=4.0,
    stable_after=60.0,
    ready_timeout=100.0,
    probe_failures=3,
    degraded_timeout=50.0,
    drain_timeout=10.0,
    stop_timeout=10.0,
)
RUN, DEGRADED, LEAVING = Publish("running"), Publish("degraded"), Publish("draining")
START, PASSED, MISSED = Event.START_REQUESTED, Event.PROBE_PASSED, Event.PROBE_FAILED
EXITED, ELAPSED, IDLE, STOP = Event.EXITED, Event.TIME_ELAPSED, Event.BECAME_IDLE, Event.STOP_REQUESTED


class Play:
    """A machine, its clock, and what it asked for last."""

    def __init__(self, limits: BabysitterLimits = LIMITS) -> None:
        self.child = Child(limits)
        self.now = 1000.0

    def tell(self, event: Event, reason: str = "", after: float = 0.0) -> list[Command]:
        """One event, `after` seconds; for `TIME_ELAPSED` the clock goes to `wake_at`."""
        self.now += after
        if event is ELAPSED:
            assert self.child.wake_at is not None
            self.now = self.child.wake_at
        return self.child.handle(event, self.now, reason)

    def expect(self, *lines: tuple[Event, list[Command], State]) -> Play:
        """A transcript."""
        for number, (event, commands, state) in enumerate(lines):
            assert (self.tell(event), self.child.state) == (commands, state), f"line {number}: {event}"
        return self


def ready() -> Play:
    return Play().expect((START, [Spawn()], State.STARTING), (PASSED, [RUN], State.READY))


def test_an_engine_is_registered_when_a_probe_passes_and_on_a_stop_drained_then_withdrawn_and_terminated() -> None:
    Play().expect(
        (START, [Spawn()], State.STARTING),
        (MISSED, [], State.STARTING),
        (PASSED, [RUN], State.READY),
        (PASSED, [], State.READY),
        (STOP, [LEAVING, Drain()], State.DRAINING),
        (IDLE, [Withdraw(), Terminate()], State.STOPPING),
        (EXITED, [], State.STOPPED),
        (STOP, [], State.STOPPED),
    )


def test_ready_is_never_assumed_after_a_time() -> None:
    """Defect: "Ready" is assumed after 30 s."""
    play = Play().expect((START, [Spawn()], State.STARTING))
    for _ in range(100):
        assert play.tell(MISSED, "refused", after=0.9) == []
        assert play.child.state is State.STARTING
    assert play.child.since_ready is None


def test_an_engine_that_never_becomes_ready_is_killed_and_restarted_and_the_reason_says_so() -> None:
    play = Play().expect((START, [Spawn()], State.STARTING))
    play.tell(MISSED, "503 Loading model")
    play.expect((ELAPSED, [Kill()], State.RESTARTING), (PASSED, [], State.RESTARTING), (EXITED, [], State.BACKOFF))
    assert play.child.reason == "not ready after 100 s: 503 Loading model"
    play.expect((ELAPSED, [Spawn()], State.STARTING))


def test_a_crash_withdraws_the_registration_at_once() -> None:
    """Defect: heartbeats go on while the child is dead."""
    play = ready().expect((EXITED, [Withdraw()], State.BACKOFF), (ELAPSED, [Spawn()], State.STARTING))
    play.expect((PASSED, [RUN], State.READY))


def test_the_delay_doubles_up_to_the_cap_and_too_many_restarts_end_in_failed() -> None:
    """Defect: fixed restart delay."""
    play, delays = Play(), []
    play.tell(START)
    for _ in range(4):
        play.tell(EXITED, "exit code 1")
        assert play.child.wake_at is not None
        delays.append(play.child.wake_at - play.now)
        assert play.tell(ELAPSED) == [Spawn()]
    assert delays == [1.0, 2.0, 4.0, 4.0]
    assert play.tell(EXITED, "exit code 1") == [GiveUp()]
    assert (play.child.state, play.child.reason, play.child.total) == (State.FAILED, "exit code 1", 4)
    play.expect((STOP, [], State.STOPPED))


def test_a_stable_run_resets_the_delay_and_the_count_but_not_the_total() -> None:
    """Defect: a counter that never resets."""
    play = Play().expect((START, [Spawn()], State.STARTING))
    for _ in range(4):
        play.expect((EXITED, [], State.BACKOFF), (ELAPSED, [Spawn()], State.STARTING))
    play.expect((PASSED, [RUN], State.READY))
    play.tell(PASSED, after=60.0)
    play.expect((EXITED, [Withdraw()], State.BACKOFF))
    assert play.child.wake_at == play.now + 1.0
    assert (play.child.restarts, play.child.total) == (1, 5)


def test_a_run_that_was_ready_only_for_a_moment_resets_nothing() -> None:
    play = ready()
    play.tell(PASSED, after=59.0)
    play.expect((EXITED, [Withdraw()], State.BACKOFF), (ELAPSED, [Spawn()], State.STARTING))
    play.expect((PASSED, [RUN], State.READY), (EXITED, [Withdraw()], State.BACKOFF))
    assert play.child.wake_at == play.now + 2.0


def test_a_long_load_is_no_stable_run() -> None:
    play = Play().expect((START, [Spawn()], State.STARTING))
    play.tell(MISSED, after=90.0)
    play.expect((EXITED, [], State.BACKOFF), (ELAPSED, [Spawn()], State.STARTING))
    play.tell(MISSED, after=90.0)
    play.expect((EXITED, [], State.BACKOFF))
    assert play.child.restarts == 2


def test_ten_thousand_restarts_do_not_overflow_the_delay() -> None:
    play = Play(BabysitterLimits())
    play.tell(START)
    for _ in range(10_000):
        play.expect((EXITED, [], State.BACKOFF), (ELAPSED, [Spawn()], State.STARTING))
    play.expect((EXITED, [GiveUp()], State.FAILED))


def test_a_first_delay_above_the_cap_is_kept() -> None:
    play = Play(BabysitterLimits(restart_delay=120.0, max_restart_delay=60.0))
    play.expect((START, [Spawn()], State.STARTING), (EXITED, [], State.BACKOFF))
    assert play.child.wake_at == play.now + 120.0


def test_an_engine_that_stops_answering_is_degraded_and_recovers() -> None:
    ready().expect(
        (MISSED, [], State.READY),
        (MISSED, [], State.READY),
        (PASSED, [], State.READY),
        (MISSED, [], State.READY),
        (MISSED, [], State.READY),
        (MISSED, [DEGRADED], State.DEGRADED),
        (MISSED, [], State.DEGRADED),
        (PASSED, [RUN], State.READY),
        (MISSED, [], State.READY),
    )


def test_an_engine_that_hangs_for_good_is_killed_and_restarted() -> None:
    play = ready().expect((MISSED, [], State.READY), (MISSED, [], State.READY))
    play.tell(MISSED, "no answer within 5 s")
    play.expect((ELAPSED, [Withdraw(), Kill()], State.RESTARTING), (EXITED, [], State.BACKOFF))
    assert play.child.reason == "without an answer for 50 s: no answer within 5 s"


def test_sigterm_is_repeated_before_sigkill() -> None:
    play = ready().expect((STOP, [LEAVING, Drain()], State.DRAINING))
    play.expect((ELAPSED, [Withdraw(), Terminate()], State.STOPPING))
    begun = play.now
    play.expect((ELAPSED, [Terminate()], State.STOPPING))
    assert play.now == begun + 4.0
    play.expect((ELAPSED, [Kill()], State.STOPPING))
    assert play.now == begun + LIMITS.stop_timeout
    play.expect((EXITED, [], State.STOPPED))


def test_every_further_request_to_stop_hurries() -> None:
    ready().expect(
        (STOP, [LEAVING, Drain()], State.DRAINING),
        (STOP, [Withdraw(), Terminate()], State.STOPPING),
        (STOP, [Kill()], State.STOPPING),
        (EXITED, [], State.STOPPED),
    )


def test_an_engine_that_is_not_ready_has_nothing_to_drain() -> None:
    Play().expect(
        (START, [Spawn()], State.STARTING), (STOP, [Terminate()], State.STOPPING), (EXITED, [], State.STOPPED)
    )


def test_a_stop_while_waiting_for_a_restart_is_the_end() -> None:
    play = ready().expect((EXITED, [Withdraw()], State.BACKOFF), (STOP, [], State.STOPPED))
    assert play.child.wake_at is None


def test_a_crash_while_stopping_is_not_restarted() -> None:
    ready().expect((STOP, [LEAVING, Drain()], State.DRAINING), (EXITED, [Withdraw()], State.STOPPED))


def test_a_stop_while_a_hanging_engine_is_being_killed_does_not_restart_it() -> None:
    play = Play().expect((START, [Spawn()], State.STARTING), (ELAPSED, [Kill()], State.RESTARTING))
    play.expect((STOP, [], State.STOPPING), (EXITED, [], State.STOPPED))


def test_an_event_that_cannot_happen_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Play().tell(PASSED)


@given(st.data())
def test_whatever_the_order_of_events_the_registration_follows_the_state_and_one_process_runs_at_a_time(
    data: st.DataObject,
) -> None:
    play = Play(BabysitterLimits(max_restarts=3))
    registered = alive = False
    for _ in range(data.draw(st.integers(0, 60))):
        child = play.child
        possible = [e for s, e in TABLE if s is child.state]
        possible = [e for e in possible if e is not ELAPSED or child.wake_at is not None]
        event = data.draw(st.sampled_from(possible))
        alive = alive and event is not EXITED
        for command in play.tell(event, after=data.draw(st.sampled_from([0.0, 1.0, 70.0]))):
            match command:
                case Spawn():
                    assert not alive
                    alive = True
                case Publish():
                    registered = True
                case Withdraw():
                    assert registered
                    registered = False
                case Terminate() | Kill() | Drain():
                    assert alive
                case GiveUp():
                    assert not alive
        assert registered == (child.state in (State.READY, State.DEGRADED, State.DRAINING))
        assert alive == (child.state not in (State.STOPPED, State.BACKOFF, State.FAILED))
        assert child.restarts <= 3
        assert (child.wake_at is None) == (
            child.state in (State.STOPPED, State.READY, State.FAILED, State.RESTARTING)
        ) or (child.state is State.STOPPING)


@given(st.lists(st.sampled_from([IDLE, ELAPSED, STOP, PASSED, MISSED]), max_size=30))
def test_a_stop_always_ends_by_time_alone(events: list[Event]) -> None:
    """From any point of the stopping, waiting is enough to come to SIGKILL."""
    play = ready()
    play.tell(STOP)
    seen: list[Command] = []
    for event in events:
        if (play.child.state, event) in TABLE and (event is not ELAPSED or play.child.wake_at is not None):
            seen += play.tell(event)
    while play.child.wake_at is not None:
        seen += play.tell(ELAPSED)
    assert seen[-1] == Kill()
    assert 1 <= seen.count(Terminate()) <= 2
