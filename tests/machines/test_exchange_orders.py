"""The exchange with attempts that take and release slots as the driver does, in any order of events."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome
from enginehouse.machines import exchange
from enginehouse.machines.exchange import Event, State
from enginehouse.policy.retry import MAX_BROKEN
from tests.machines.orders import ExchangePlayer

ENDS = (exchange.Refuse, exchange.Answer, exchange.Break, exchange.PassOn, exchange.Finish)
#: Whoever sends these has let go of an attempt before.
FAILED = {Event.CONNECT_FAILED, Event.BROKE_EARLY, Event.TIMED_OUT_EARLY, Event.REJECTED, Event.WON}
BROKE = {Event.BROKE_STREAM, Event.BROKE_LATE}
SEEN = {Event.BROKE_STREAM, Event.BROKE_LATE, Event.ENDED}


class Books:
    """What the driver holds for one request: slots, a place in line, and whether the client has seen a part of it."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.waits = False
        self.begun = False
        self.connects = 0
        self.reconnects = 0
        self.ends: list[Any] = []

    def before(self, event: Event) -> None:
        """The attempt that an event is about is let go of before the machine is told."""
        if event in FAILED | BROKE:
            self.running.pop()
        self.begun = self.begun or event in SEEN

    def carry_out(self, command: Any, last: str) -> None:
        if isinstance(command, exchange.Connect):
            assert not self.running, "a second attempt that is no race"
            self.running = [command.choice.service.name]
            self.connects += 1
            self.waits = False
        elif isinstance(command, exchange.Reconnect):
            assert not self.running
            self.running = [last]
            self.reconnects += 1
        elif isinstance(command, exchange.Race):
            assert len(self.running) == 1
            assert command.choice.service.name not in self.running
            self.running.append(command.choice.service.name)
            self.connects += 1
        elif isinstance(command, exchange.Wait):
            assert not self.running, "it waits with a slot in its hands"
            self.waits = True
        elif isinstance(command, ENDS):
            self.ends.append(command)
            if isinstance(command, exchange.Finish | exchange.Break):
                self.running.clear()
            self.waits = False


def play(player: ExchangePlayer, rng: random.Random, steps: int) -> Books:
    """A request's life by chance, up to so many events; what is open then is ended by its client."""
    books, last = Books(), ""
    for _ in range(steps):
        possible = player.possible(0.0)
        if not possible:
            break
        event = rng.choice(possible)
        books.before(event[0])
        (command,) = player.tell(event, 0.0)
        books.carry_out(command, last)
        last = books.running[-1] if books.running else last
        check(player, books)
    if player.state is not State.DONE:
        (command,) = player.tell((Event.CLIENT_LEFT, Outcome.CLIENT_LEFT), 0.0)
        books.carry_out(command, last)
    return books


def check(player: ExchangePlayer, books: Books) -> None:
    """Between two events."""
    state = player.state
    assert len(books.running) == {State.TRYING: 1, State.RACING: 2, State.RESUMING: 1}.get(state, 0)
    assert books.waits == (state in (State.QUEUED, State.PARKED))
    assert bool(books.ends) == (state is State.DONE)
    assert state not in (State.RESUMING, State.PARKED) or books.begun


@settings(max_examples=400)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 40))
def test_whatever_happens_in_whatever_order_no_slot_and_no_place_is_held_in_the_end_and_it_ends_once(
    seed: int, steps: int
) -> None:
    rng = random.Random(seed)
    player = ExchangePlayer(rng)
    books = play(player, rng, steps)
    assert (books.running, books.waits, len(books.ends)) == ([], False, 1)
    # What the client gets fits what it has seen: an error before the first byte, a break after it.
    assert not (isinstance(books.ends[0], exchange.Break) and not books.begun)
    assert not (isinstance(books.ends[0], exchange.Answer | exchange.Refuse | exchange.PassOn) and books.begun)
    # A late event changes nothing.
    assert player.tell((Event.ENDED, Outcome.ANSWERED), 0.0) == [exchange.IGNORE]


@settings(max_examples=400)
@given(seed=st.integers(0, 2**32))
def test_there_are_never_more_attempts_than_allowed_and_none_for_a_request_that_broke_two_services(seed: int) -> None:
    rng = random.Random(seed)
    player = ExchangePlayer(rng)
    books = play(player, rng, 60)
    assert books.connects <= player.max_attempts
    assert books.connects + books.reconnects == player.machine.attempts
    assert player.machine.broken <= MAX_BROKEN + 1  # one more where two ran at once
    assert all(len(tried) == len(set(tried)) for tried in player.asked_for)


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32))
def test_an_attempt_is_never_made_at_a_service_that_was_tried_unless_it_waited_since(seed: int) -> None:
    rng = random.Random(seed)
    player, tried = ExchangePlayer(rng), set[str]()
    for _ in range(60):
        possible = player.possible(0.0)
        if not possible:
            return
        (command,) = player.tell(rng.choice(possible), 0.0)
        if isinstance(command, exchange.Wait) and not player.machine.tried:
            tried.clear()
        if isinstance(command, exchange.Connect | exchange.Race):
            assert command.choice.service.name not in tried
            tried.add(command.choice.service.name)
