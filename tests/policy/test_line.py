"""Lines: clients take turns, one client's requests keep their order, nobody is forgotten."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from enginehouse.policy.line import (
    LEAST,
    MOST,
    REMEMBERED,
    UNKNOWN,
    Line,
    line_apart,
    line_at,
    line_for,
    lines_of,
    picky,
)
from tests.policy.fleets import service


def line_of(*clients: str) -> Line[str]:
    """One request for each mention of a client, in order: a1, a2, b1, …."""
    line: Line[str] = Line()
    for number, client in enumerate(clients):
        line.join(client, f"{client}{clients[:number].count(client) + 1}", 30.0 + number)
    return line


def served(line: Line[str]) -> list[str]:
    """Everybody, in the order in which they are served."""
    order = []
    while line.size:
        (waiter,) = line.heads(1)
        line.go(waiter[0], waiter, 1.0)
        order.append(waiter)
    return order


def test_one_clients_requests_are_served_in_their_order() -> None:
    assert served(line_of("a", "a", "a")) == ["a1", "a2", "a3"]


def test_clients_take_turns_however_many_requests_each_has() -> None:
    assert served(line_of("a", "a", "a", "a", "b", "c", "c")) == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]


def test_a_client_that_was_just_served_comes_after_one_that_joined_meanwhile() -> None:
    line = line_of("a", "a")
    line.go("a", "a1", 0.0)
    assert line.join("b", "b1", 9.0) == 2
    line.go("a", "a2", 0.0)
    line.join("a", "a3", 9.0)
    assert served(line) == ["b1", "a3"]


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.integers(0, 12), st.sampled_from("abcd"))
@example(["a", "b", "b"], 0, "a")
@example(["b", "b", "a"], 0, "a")
def test_the_position_says_after_how_many_services_it_is_its_turn(before: list[str], gone: int, client: str) -> None:
    line = line_of(*before)
    for waiter in served(line_of(*before))[:gone]:
        line.go(waiter[0], waiter, 0.0)
    position = line.join(client, client + "-new", 99.0)
    assert served(line).index(client + "-new") == position - 1


@given(st.data())
def test_no_client_waits_for_more_than_one_turn_of_each_other(data: st.DataObject) -> None:
    line = line_of(*data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12)))
    since = dict.fromkeys(line.clients, 0)
    bound = len(line.clients) - 1
    while line.size:
        (waiter,) = line.heads(1)
        line.go(waiter[0], waiter, 1.0)
        for name in line.clients:
            since[name] = 0 if name == waiter[0] else since[name] + 1
            assert since[name] <= bound


def test_who_leaves_holds_nobody_up() -> None:
    line = line_of("a", "b", "a", "c")
    line.leave("b", "b1")
    line.leave("a", "a1")
    assert (line.size, list(line.clients)) == (2, ["a", "c"])
    assert served(line) == ["a2", "c1"]


def test_the_heads_are_the_first_requests_of_the_next_clients() -> None:
    line = line_of("a", "a", "b", "c")
    assert line.heads(1) == ["a1"]
    assert line.heads(4) == ["a1", "b1", "c1"]
    assert Line[str]().heads(4) == []


def test_late_are_those_whose_deadline_has_passed() -> None:
    line = line_of("a", "b", "a")  # until 30, 31, 32
    assert line.late(29.9) == []
    assert set(line.late(31.0)) == {"a1", "b1"}
    assert set(line.late(40.0)) == {"a1", "b1", "a2"}


def test_the_client_with_most_requests_spares_its_last_one_for_a_client_that_will_have_fewer() -> None:
    line = line_of("a", "b", "b", "b")
    assert line.spare("c") == "b3"
    assert line.spare("a") == "b3"
    assert line.spare("b") is None
    line.leave("b", "b3")
    assert line.spare("a") is None
    assert line.spare("c") == "b2"


# -- how long it takes -------------------------------------------------------------------------------------------------


def test_a_line_in_which_nothing_has_moved_yet_knows_nothing() -> None:
    assert line_of("a", "b").retry_after(100.0) == UNKNOWN


def test_the_estimate_is_the_number_of_those_that_wait_at_the_pace_of_late() -> None:
    line = line_of(*["a"] * 30)
    for number in range(10):
        line.go("a", f"a{number + 1}", number * 0.5)  # two in a second, the last one at 4.5 s
    assert line.size == 20
    assert line.retry_after(5.0) == 11  # 20 before it and itself, at half a second each


def test_while_nothing_moves_the_estimate_grows_up_to_a_minute() -> None:
    line = line_of(*["a"] * 9)
    line.go("a", "a1", 0.0)
    assert [line.retry_after(now) for now in (0.0, 1.0, 2.0, 90.0)] == [LEAST, 9, 18, MOST]


def test_only_the_last_departures_count() -> None:
    line = line_of(*["a"] * (REMEMBERED + 8))
    line.go("a", "a1", 0.0)  # then a long standstill, then ten in a second
    for number in range(REMEMBERED):
        line.go("a", f"a{number + 2}", 1000.0 + number / 10)
    assert line.retry_after(1000.0 + REMEMBERED / 10) == LEAST


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_place_at_a_service_may_be_waited_for_in_the_lines_of_its_models_of_any_and_of_itself() -> None:
    one = service("a", models=("m", "n"))
    assert set(lines_of(one)) == {
        line_at(one),
        *[line_for(model, tried) for model in ("", "m", "n") for tried in (False, True)],
    }
    assert len(lines_of(one)) == 7
    assert line_apart("m") not in lines_of(one)


def test_lines_beside_that_of_a_model_have_names_that_no_model_has() -> None:
    assert "\n" in line_for("m", True)
    assert "\n" in line_at(service("m"))
    assert line_at(service("m")) != line_for("m", True)
    assert [picky(name) for name in ("m", "", line_for("m", True), line_at(service("m")))] == [
        False,
        False,
        True,
        False,
    ]
