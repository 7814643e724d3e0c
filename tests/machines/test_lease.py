"""The registration machine, as playbooks: what happens, what it commands."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginehouse.machines.lease import (
    FIRST_DELAY,
    LONGEST_DELAY,
    TABLE,
    Accepted,
    Changed,
    Command,
    Event,
    Failed,
    Heartbeat,
    Lease,
    Offered,
    Register,
    Release,
    State,
    Superseded,
    Unknown,
    Withdrawn,
    Woken,
)

INTERVAL = 30.0
L1, L2 = "lease-1", "lease-2"


class Later(NamedTuple):
    """In a playbook: time passes until the machine wants to be woken, and it is."""


def new_lease() -> Lease:
    return Lease(INTERVAL, rng=lambda: 1.0)


def play(lease: Lease, *script: Event | Command | Later, now: float = 100.0) -> Lease:
    """Feed events; each command in the script has to be what the event before it led to, and no other may come."""
    expected: list[Command] = []
    given: list[Command] = []
    for line in script:
        if isinstance(line, Register | Heartbeat | Release):
            expected.append(line)
            continue
        assert given == expected, f"before {line}"
        expected, given = [], []
        if isinstance(line, Later):
            assert lease.wake_at is not None
            now = max(now, lease.wake_at)
            given = lease.handle(Woken(), now)
        else:
            given = lease.handle(line, now)
    assert given == expected
    return lease


REGISTERED: tuple[Event | Command, ...] = (Offered(L1), Register(L1), Accepted())


def test_an_offered_service_is_registered_and_then_confirmed_by_heartbeats() -> None:
    lease = play(new_lease(), *REGISTERED, Later(), Heartbeat(L1), Accepted(), Later(), Heartbeat(L1), Accepted())
    assert lease.state is State.REGISTERED


def test_the_heartbeat_is_due_after_nine_to_ten_tenths_of_the_interval_so_that_many_instances_spread() -> None:
    for chance, seconds in ((0.0, 27.0), (1.0, 30.0)):
        lease = play(Lease(INTERVAL, rng=lambda chance=chance: chance), *REGISTERED, now=100.0)  # type: ignore[misc]
        assert lease.wake_at == pytest.approx(100.0 + seconds)


def test_being_woken_early_leads_to_nothing() -> None:
    play(new_lease(), *REGISTERED, Woken(), Woken())


def test_registration_is_retried_for_ever_with_growing_delays_up_to_the_longest() -> None:
    """Defect: Registration is not retried."""
    lease, now = new_lease(), 0.0
    assert lease.handle(Offered(L1), now) == [Register(L1)]
    delays = []
    for _ in range(100):
        assert lease.handle(Failed("connection refused"), now) == []
        assert lease.wake_at is not None
        delays.append(lease.wake_at - now)
        now = lease.wake_at
        assert lease.handle(Woken(), now) == [Register(L1)]
    assert delays[0] == FIRST_DELAY
    assert delays[1] == 2 * FIRST_DELAY
    assert delays[-1] == LONGEST_DELAY
    assert delays == sorted(delays)
    assert lease.reason == "connection refused"


def test_a_success_after_failures_starts_the_delays_anew_and_clears_the_reason() -> None:
    lease = play(new_lease(), Offered(L1), Register(L1), Failed("x"), Later(), Register(L1), Failed("x"))
    play(lease, Later(), Register(L1), Accepted())
    assert (lease.reason, lease.state) == ("", State.REGISTERED)
    play(lease, Later(), Heartbeat(L1), Failed("y"), now=1000.0)
    assert lease.wake_at == 1000.0 + FIRST_DELAY


def test_a_404_to_a_heartbeat_registers_again_with_the_same_lease() -> None:
    """Defect: after a restart a heartbeat gets 404 and the service is lost until its babysitter restarts."""
    play(new_lease(), *REGISTERED, Later(), Heartbeat(L1), Unknown(), Register(L1), Accepted())


def test_a_heartbeat_that_got_no_answer_is_repeated_as_a_heartbeat_so_that_it_cannot_take_a_name_back() -> None:
    play(new_lease(), *REGISTERED, Later(), Heartbeat(L1), Failed("timeout"), Later(), Heartbeat(L1), Accepted())


@pytest.mark.parametrize("call", [Heartbeat, Register, Release])
def test_an_instance_that_learns_of_its_successor_stops_for_good(call: type) -> None:
    lease = play(new_lease(), Offered(L1), Register(L1))
    if call is Heartbeat:
        play(lease, Accepted(), Later(), Heartbeat(L1))
    elif call is Release:
        play(lease, Accepted(), Withdrawn(), Release(L1))
    play(lease, Superseded(), Offered(L2), Changed(), Withdrawn(), Woken(), Failed(), Accepted())
    assert lease.state is State.SUPERSEDED
    assert lease.wake_at is None
    assert "another instance" in lease.reason


def test_a_changed_record_is_registered_at_once() -> None:
    play(new_lease(), *REGISTERED, Changed(), Register(L1), Accepted())


def test_a_record_that_changes_during_a_call_is_registered_after_it() -> None:
    play(new_lease(), Offered(L1), Register(L1), Changed(), Changed(), Accepted(), Register(L1), Accepted())
    play(new_lease(), *REGISTERED, Later(), Heartbeat(L1), Changed(), Accepted(), Register(L1), Accepted())


def test_a_record_that_changes_while_backing_off_is_in_the_repetition() -> None:
    play(new_lease(), *REGISTERED, Later(), Heartbeat(L1), Failed(), Changed(), Later(), Register(L1), Accepted())


def test_a_withdrawn_service_is_released() -> None:
    lease = play(new_lease(), *REGISTERED, Withdrawn(), Release(L1), Accepted())
    assert lease.state is State.UNREGISTERED
    assert lease.wake_at is None


def test_a_release_that_finds_nothing_is_done() -> None:
    assert play(new_lease(), *REGISTERED, Withdrawn(), Release(L1), Unknown()).state is State.UNREGISTERED


def test_a_release_is_repeated_until_it_succeeds() -> None:
    play(new_lease(), *REGISTERED, Withdrawn(), Release(L1), Failed(), Later(), Release(L1), Accepted())


def test_a_service_withdrawn_during_its_registration_is_released_after_it() -> None:
    play(new_lease(), Offered(L1), Register(L1), Withdrawn(), Accepted(), Release(L1), Accepted())


def test_a_registration_that_failed_may_have_arrived_and_is_released_all_the_same() -> None:
    play(new_lease(), Offered(L1), Register(L1), Failed("timeout"), Withdrawn(), Release(L1), Unknown())


def test_no_heartbeat_follows_a_withdrawal() -> None:
    """Defect: heartbeats go on while the child is dead."""
    play(new_lease(), *REGISTERED, Later(), Heartbeat(L1), Withdrawn(), Accepted(), Release(L1), Accepted())


def test_a_service_offered_again_gets_its_new_lease_after_the_old_one_is_released() -> None:
    play(new_lease(), *REGISTERED, Withdrawn(), Release(L1), Offered(L2), Accepted(), Register(L2), Accepted())
    play(
        new_lease(), *REGISTERED, Withdrawn(), Release(L1), Failed(), Offered(L2), Release(L1), Accepted(), Register(L2)
    )


def test_an_offer_on_top_of_an_offer_keeps_the_lease() -> None:
    play(new_lease(), *REGISTERED, Offered(L2), Register(L1), Accepted())


def test_every_state_says_what_it_does_on_everything_the_outside_may_do_at_any_time() -> None:
    for state in State:
        for event in (Offered, Changed, Withdrawn, Woken):
            assert (state, event) in TABLE


OUTSIDE = st.sampled_from([Offered, Changed, Withdrawn, Woken])
ANSWERS = st.sampled_from([Accepted(), Accepted(), Failed("x"), Unknown(), Superseded()])


@settings(max_examples=400)
@given(st.lists(st.tuples(OUTSIDE, st.booleans(), ANSWERS), max_size=40))
def test_in_any_order_of_events_one_call_is_under_way_and_the_registry_ends_up_as_wanted(
    story: list[tuple[type, bool, Event]],
) -> None:
    lease, now, wanted, leases = new_lease(), 0.0, False, 0
    under_way: list[Command] = []

    def tell(event: Event) -> None:
        nonlocal under_way
        commands = lease.handle(event, now)
        assert len(commands) <= 1
        assert not (commands and under_way), "two calls at once"
        under_way = under_way or commands
        assert lease.busy == bool(under_way)

    for kind, answers, answer in story:
        now += 1.0
        if kind is Offered:
            leases += 1
        tell(Offered(f"lease-{leases}") if kind is Offered else kind())
        wanted = (wanted or kind is Offered) and kind is not Withdrawn
        if answers and under_way:
            under_way = []
            tell(answer)
    # From here on the registry answers everything: the machine has to settle within a few calls.
    for _ in range(10):
        if lease.state in (State.SUPERSEDED, State.UNREGISTERED, State.REGISTERED):
            break
        if under_way:
            under_way = []
            tell(Accepted())
        else:
            assert lease.wake_at is not None, "it waits for nothing"
            now = max(now, lease.wake_at)
            tell(Woken())
    if lease.state is not State.SUPERSEDED:
        assert lease.state is (State.REGISTERED if wanted else State.UNREGISTERED)
