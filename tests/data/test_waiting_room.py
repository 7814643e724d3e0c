"""The waiting room by itself: whose turn it is, here and among workers, and that nobody is forgotten."""

from __future__ import annotations

import mmap
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.ask import Ask
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.shared import SIZE, Shared, WorkerState
from enginehouse.data.turns import SILENT
from enginehouse.data.waiting import APART, WaitingRoom
from enginehouse.machines.exchange import Event
from enginehouse.policy.choose import LoadView, has_room
from enginehouse.policy.line import UNKNOWN, line_apart, line_at, line_for, place_of
from tests.policy.fleets import service

A = service("a", 0, capacity=1)


class Guest:
    """A request that waits: it goes on when `wants` says so. `told`: what it was told, in order."""

    def __init__(self, name: str, wants: Callable[[], bool] = lambda: True) -> None:
        self.name = name
        self.wants = wants
        self.told: list[str] = []

    def woken(self, event: Event) -> bool:
        if event is not Event.FREED:
            self.told.append(event.value)
            return True
        went = self.wants()
        self.told.append("went" if went else "asked in vain")
        return went


class Late(Guest):
    """Never goes; does something when it is told that it is late."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__("late", lambda: False)
        self.then = then

    def woken(self, event: Event) -> bool:
        if event is Event.LATE:
            self.then()
        return super().woken(event)


class House:
    """Workers of one router, each with its room. `rung` are messages (to, slot, hops) not yet read."""

    def __init__(self, workers: int = 1, **settings: object) -> None:
        self.shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
        self.now = 100.0
        self.rung: list[tuple[int, ...]] = []
        self.services = {A.slot: A}
        config = RouterConfig(**settings)  # type: ignore[arg-type]
        self.rooms = []
        for index in range(workers):
            self.shared.states[index], self.shared.beats[index] = WorkerState.SERVING, self.now
            view = LoadView(self.shared, workers)
            self.rooms.append(WaitingRoom(config, self.shared, index, view, lambda *told: self.rung.append(told)))
        self.view = view
        self.order: list[str] = []
        for room in self.rooms:
            room.sweep(self.now)

    def guest(self, room: int, name: str, line: str = "m", client: str = "", at: Service = A) -> Guest:
        """Someone who wants a place at a service and takes it."""

        def take() -> bool:
            if not has_room(at, self.view):
                return False
            self.shared.loads[room][at.slot] += 1
            self.order.append(name)
            return True

        guest = Guest(name, take)
        self.now += 0.001
        assert self.rooms[room].join(line, guest, client or name, self.now) > 0
        return guest

    def release(self, room: int, at: Service = A) -> None:
        """A request at the service has ended in this worker, which tells of it."""
        self.shared.loads[room][at.slot] -= 1
        self.rooms[room].offer(at, self.now)
        while self.rung:
            worker, slot, hops = self.rung.pop(0)
            self.now += 0.001
            self.rooms[worker].offer(self.services[slot], self.now, hops)

    def beat(self) -> None:
        self.now += 0.25
        for index, room in enumerate(self.rooms):
            self.shared.beats[index] = self.now
            room.sweep(self.now)


# -- one worker --------------------------------------------------------------------------------------------------------


def test_nobody_waits_in_a_new_room() -> None:
    house = House()
    assert not house.rooms[0].waiting
    assert not house.shared.crowded[0]


def test_who_is_first_in_line_gets_the_place_that_was_freed_and_only_he() -> None:
    house = House()
    house.shared.loads[0][0] = 1
    first, second = house.guest(0, "first"), house.guest(0, "second")
    house.release(0)
    assert (first.told, second.told) == (["went"], [])
    house.release(0)
    assert second.told == ["went"]
    assert not house.rooms[0].waiting


def test_several_places_freed_at_once_are_all_taken() -> None:
    house = House()
    wide = service("a", 0, capacity=3)
    house.shared.loads[0][0] = 3
    guests = [house.guest(0, str(number), at=wide) for number in range(5)]
    house.shared.loads[0][0] = 1
    house.rooms[0].offer(wide, house.now)
    assert [guest.told for guest in guests] == [["went"], ["went"], [], [], []]


def test_a_line_has_a_bound_and_another_models_line_its_own() -> None:
    house = House(queue_size=2)
    house.guest(0, "one", client="c")
    house.guest(0, "two", client="c")
    assert house.rooms[0].join("m", Guest("three"), "c", house.now) == 0
    assert house.rooms[0].join("n", Guest("three"), "c", house.now) == 1


def test_in_a_full_line_a_client_with_fewer_requests_gets_the_last_place_of_the_one_with_most() -> None:
    house = House(queue_size=4)
    many = [house.guest(0, f"many{number}", client="many") for number in range(4)]
    house.guest(0, "one", client="few")
    house.guest(0, "two", client="few")
    assert [guest.told for guest in many] == [[], [], ["turned_away"], ["turned_away"]]
    assert house.rooms[0].join("m", Guest("three"), "few", house.now) == 0
    assert house.rooms[0].waiting["m"].size == 4
    assert house.shared.waiting[0] == 4


def test_who_was_turned_away_and_comes_back_at_once_finds_the_line_full() -> None:
    house = House(queue_size=2)
    room = house.rooms[0]
    positions: list[int] = []

    class Stubborn(Guest):
        def woken(self, event: Event) -> bool:
            positions.append(room.join("m", Guest("again"), "many", house.now))
            return super().woken(event)

    house.guest(0, "first", client="many")
    room.join("m", Stubborn("second"), "many", house.now)
    house.guest(0, "other", client="few")
    assert positions == [0]


def test_what_a_request_has_waited_before_counts() -> None:
    house = House(queue_timeout=10.0)
    guest = Guest("again", lambda: False)
    house.rooms[0].join("m", guest, "c", house.now, 8.0)
    house.now += 1.75
    house.beat()
    assert guest.told[-1] == "late"


def test_without_a_queue_nobody_waits() -> None:
    house = House(queue_size=0)
    assert house.rooms[0].join("m", Guest("one"), "c", house.now) == 0
    assert not house.rooms[0].waiting


def test_who_leaves_is_neither_woken_nor_told_that_it_is_late() -> None:
    house = House()
    house.shared.loads[0][0] = 1
    guest, other = house.guest(0, "gone"), house.guest(0, "other")
    house.rooms[0].leave(guest)
    house.rooms[0].leave(guest)
    house.release(0)
    house.now += 100
    house.beat()
    assert (guest.told, other.told) == ([], ["went"])


def test_a_request_that_waited_its_time_is_told_and_has_left() -> None:
    house = House(queue_timeout=10.0)
    house.shared.loads[0][0] = 1
    early = house.guest(0, "early")
    house.now += 5
    late = house.guest(0, "late")
    house.now += 5
    house.beat()
    assert early.told[-1] == "late"
    assert "late" not in late.told
    assert list(house.rooms[0].waiting["m"].heads(9)) == [late]
    house.now += 5
    house.beat()
    assert late.told[-1] == "late"
    assert not house.rooms[0].waiting


def test_how_long_to_stay_away_is_known_while_the_last_of_a_line_is_told_that_it_is_late() -> None:
    house = House(queue_timeout=10.0)
    room = house.rooms[0]
    house.shared.loads[0][0] = 1
    said: list[int] = []
    house.guest(0, "first")
    last = Late(lambda: said.append(room.retry_after("m", house.now)))
    room.join("m", last, "last", house.now)
    house.release(0)
    house.now += 10.0
    house.beat()
    assert said == [11]  # one in ten seconds and a quarter
    assert room.retry_after("m", house.now) == UNKNOWN


def test_a_waiter_that_went_and_came_back_meanwhile_keeps_its_new_place() -> None:
    house = House()
    room = house.rooms[0]
    guest = Guest("back")

    def go_and_come_back() -> bool:
        guest.wants = lambda: False
        assert room.join("m", guest, "c", house.now) == 1
        return True

    guest.wants = go_and_come_back
    room.join("m", guest, "c", house.now)
    room.offer_all(house.now)
    assert room.waiting["m"].size == 1
    guest.wants = lambda: True
    room.offer_all(house.now)
    assert not room.waiting


def test_what_was_tried_elsewhere_does_not_hold_up_those_behind_it_whom_a_place_helps() -> None:
    house = House()
    choosy = [Guest(f"choosy {number}", lambda: False) for number in range(3)]
    for guest in choosy:
        house.rooms[0].join(line_for("m", True), guest, guest.name, house.now)
    easy = house.guest(0, "easy", line_for("m", True))
    plain = house.guest(0, "plain")
    house.shared.loads[0][0] = 1
    house.release(0)
    assert easy.told == ["went"]
    house.release(0)
    assert plain.told == ["went"]
    assert {guest.told[-1] for guest in choosy} == {"asked in vain"}


def test_those_that_every_service_has_failed_are_asked_now_and_then_and_when_anything_has_changed() -> None:
    house = House()
    patient = Guest("apart", lambda: False)
    house.rooms[0].join(line_apart("m"), patient, "c", house.now)
    house.shared.loads[0][0] = 1
    house.release(0)
    assert patient.told == []
    for _ in range(2 * APART):
        house.beat()
    assert len(patient.told) == 2
    house.rooms[0].offer_all(house.now)
    assert len(patient.told) == 3


def test_lines_for_the_same_service_take_turns() -> None:
    house = House()
    house.shared.loads[0][0] = 1
    for number in range(3):
        house.guest(0, f"m{number}", "m")
    for number in range(3):
        house.guest(0, f"any{number}", "")
    house.guest(0, "own", line_at(A))
    for _ in range(7):
        house.now += 1
        house.release(0)
    assert house.order == ["m0", "any0", "own", "m1", "any1", "m2", "any2"]


def test_a_newcomer_has_to_wait_behind_those_that_wait_for_the_same() -> None:
    house = House(2)
    assert not house.rooms[0].behind(Ask("m"))
    house.guest(1, "other")
    assert house.rooms[0].behind(Ask("m"))
    assert house.rooms[1].behind(Ask("m"))
    assert not house.rooms[0].behind(Ask("n"))


def test_who_wants_one_certain_service_does_not_wait_behind_those_that_want_any() -> None:
    house = House()
    house.guest(0, "other")
    assert not house.rooms[0].behind(Ask("m", remembered=0))


# -- several workers ---------------------------------------------------------------------------------------------------


def test_a_place_freed_in_one_worker_goes_to_the_other_where_nobody_waits_here() -> None:
    house = House(2)
    house.shared.loads[0][0] = 1
    guest = house.guest(1, "other")
    house.release(0)
    assert guest.told == ["went"]


def test_workers_take_turns_so_that_the_busier_one_does_not_keep_every_place() -> None:
    house = House(2)
    house.shared.loads[0][0] = 1
    for number in range(4):
        house.guest(0, f"a{number}")
    for number in range(3):
        house.guest(1, f"b{number}")
    for _ in range(7):
        house.now += 1
        house.release(0 if house.shared.loads[0][0] else 1)
    assert house.order == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]
    assert not house.rooms[0].waiting
    assert not house.rooms[1].waiting


def test_a_worker_that_shows_no_sign_of_life_is_passed_over() -> None:
    house = House(2)
    house.shared.loads[0][0] = 1
    frozen = house.guest(1, "frozen")
    guest = house.guest(0, "here")
    house.now += SILENT + 0.1
    house.shared.beats[0] = house.now
    house.rooms[0].sweep(house.now)
    house.release(0)
    assert (guest.told[-1], frozen.told) == ("went", [])


def test_a_worker_that_died_leaves_no_lines_behind() -> None:
    house = House(2)
    house.guest(1, "gone")
    house.shared.forget_worker(1)
    house.rooms[0].sweep(house.now)
    assert not house.rooms[0].behind(Ask("m"))
    assert not house.shared.crowded[0]
    assert not any(house.shared.turns[1])


def test_who_cannot_use_its_turn_passes_it_on() -> None:
    house = House(2)
    house.shared.loads[0][0] = 1
    in_vain = Guest("in vain", lambda: False)
    house.rooms[1].join("m", in_vain, "c", house.now)
    guest = house.guest(0, "here")
    house.release(0)
    assert (guest.told, in_vain.told) == (["went"], ["asked in vain"])


def test_who_used_its_turn_tells_the_others_of_the_places_that_are_left_however_many_were_asked_in_vain() -> None:
    house = House(2)
    wide = service("a", 0, capacity=2)
    house.shared.loads[0][0] = 2
    other = house.guest(1, "other", at=wide)
    house.guest(0, "here", at=wide)
    house.shared.loads[0][0] = 0
    house.rooms[1].offer(wide, house.now, 9)
    assert other.told == ["went"]
    assert house.rung == [(0, 0, 1)]


def test_a_place_that_nobody_can_use_is_not_passed_round_for_ever() -> None:
    house = House(3)
    house.shared.loads[0][0] = 1
    guests = [Guest(str(number), lambda: False) for number in range(3)]
    for number, guest in enumerate(guests):
        house.rooms[number].join("m", guest, "c", house.now)
    house.release(0)
    assert all(1 <= len(guest.told) <= 3 for guest in guests)


def test_room_made_without_a_word_is_found_by_the_sweep() -> None:
    house = House(2)
    house.shared.loads[0][0] = 1
    guest = house.guest(1, "other")
    house.shared.loads[0][0] = 0  # its worker died
    house.beat()
    assert guest.told == ["went"]


def test_the_one_look_is_false_again_when_nobody_waits_any_more_and_true_where_it_was_cleared_by_mistake() -> None:
    house = House(2)
    guest = house.guest(1, "other")
    house.shared.loads[0][0] = 1
    house.shared.crowded[0] = 0
    house.beat()
    assert house.shared.crowded[0]
    house.rooms[1].leave(guest)
    house.beat()
    assert not house.shared.crowded[0]
    assert not any(house.shared.turns[1])


def test_two_lines_that_share_a_place_in_memory_end_it_only_together() -> None:
    names = iter(f"model-{number}" for number in range(10**6))
    other = next(name for name in names if place_of(name) == place_of("m"))
    house = House()
    house.shared.loads[0][0] = 1
    one = house.guest(0, "one", "m")
    began = house.shared.turns[0][place_of("m")]
    two = house.guest(0, "two", other)
    assert house.shared.turns[0][place_of("m")] == began  # who waits for longer does not lose his turn
    house.rooms[0].leave(one)
    assert house.shared.turns[0][place_of("m")]
    house.rooms[0].leave(two)
    assert not house.shared.turns[0][place_of("m")]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["join", "release", "leave", "beat", "wait"])), max_size=40)
)
def test_whatever_happens_nobody_waits_beside_a_free_place_for_longer_than_a_sweep_and_all_are_told(
    steps: list[tuple[int, str]],
) -> None:
    house = House(3, queue_timeout=20.0)
    house.shared.loads[0][0] = 1
    guests: list[tuple[int, Guest]] = []
    for room, what in steps:
        if what == "join":
            guests.append((room, house.guest(room, f"g{len(guests)}", client=f"c{len(guests) % 2}")))
        elif what == "release" and house.shared.loads[room][0]:
            house.release(room)
        elif what == "leave" and guests:
            at, guest = guests[room % len(guests)]
            house.rooms[at].leave(guest)
        elif what == "wait":
            house.now += 7
        else:
            house.beat()
            waiting = sum(len(r.waiting) for r in house.rooms)
            assert not waiting or not has_room(A, house.view)
        assert house.shared.load(0) <= 1
        assert list(house.shared.waiting[:3]) == [sum(li.size for li in r.waiting.values()) for r in house.rooms]
    house.now += 21
    house.beat()
    assert not any(room.waiting for room in house.rooms)
    assert all(not any(row) for row in house.shared.turns[:3])
    for _, guest in guests:
        ends = [word for word in guest.told if word != "asked in vain"]
        assert len(ends) <= 1
