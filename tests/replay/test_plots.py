"""Pictures of a replay: well-formed, nothing written over anything else, whatever the figures are."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginehouse.replay.asking import Asking, target
from enginehouse.replay.call import Call, Ending
from enginehouse.replay.figures import Figures, figures
from enginehouse.replay.player import Player
from enginehouse.replay.plots import pictures
from enginehouse.replay.run import Options
from enginehouse.replay.text import Texts
from enginehouse.replay.traces import Session, Trace, Turn
from tests.pictures import check

TURN = Turn(100, 10, (1,))
OPTIONS = Options(url="http://h/v1", model="m", time_scale=4.0)


def a_player(calls: list[Call], name: str = "conversation") -> tuple[Player, Figures]:
    """A player as it is after these calls, and their figures."""
    trace = Trace(name, [Session(0.0, (TURN,))] * max(len(calls), 1))
    player = Player(trace, Texts(), Asking(target(OPTIONS.url), "m"))
    player.calls, player.began = calls, 50.0
    told = figures(calls, planned=len(calls), began=50.0, time_scale=OPTIONS.time_scale)
    return player, told


def call(due: float, first: float, rest: float, service: str = "e", ending: Ending = Ending.ANSWERED) -> Call:
    made = Call(0, TURN, 50.0 + due)
    made.sent, made.first, made.end = made.due, made.due + first, made.due + first + rest
    made.ending, made.service, made.prompt, made.completion = ending, service, 100, 10
    return made


def usual(number: int, services: int = 8, factor: float = 1.0) -> list[Call]:
    rng = Random(5)
    return [
        call(number * 0.1, rng.lognormvariate(-2, 1) * factor, rng.random(), f"engine-{number % services}")
        for number in range(number)
    ]


@pytest.mark.parametrize("number", [1, 2, 50, 3000])
@pytest.mark.parametrize("factor", [0.0001, 1.0, 900.0])
def test_three_pictures_are_drawn_of_few_and_many_answers_fast_and_slow(number: int, factor: float) -> None:
    drawn = pictures(*a_player(usual(number, factor=factor)), OPTIONS)
    assert sorted(drawn) == ["balance.svg", "timeline.svg", "ttft.svg"]
    for picture in drawn.values():
        check(picture)


@given(
    st.lists(
        st.builds(
            call,
            st.floats(0, 1000),
            st.floats(0, 1000),
            st.floats(0, 1000),
            st.sampled_from(["a", "b", "", "-"]),
            st.sampled_from(Ending),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=60)
def test_no_figures_spoil_a_picture(calls: list[Call]) -> None:
    for picture in pictures(*a_player(calls), OPTIONS).values():
        check(picture)


def test_the_distribution_says_its_percentiles_and_the_share_within_the_objective() -> None:
    calls = [call(0.0, 0.1 if number < 90 else 1.0, 0.1) for number in range(100)]
    said = [box.text for box in check(pictures(*a_player(calls), OPTIONS)["ttft.svg"])]
    assert "90.0% within 2 s" in said
    assert "p50 400 ms" in said
    assert "p99 4 s" in said


def test_nothing_is_drawn_where_nobody_asked() -> None:
    calls = [call(due, 0.1, 0.1) for due in (0.0, *[70 + number / 20 for number in range(599)])]
    picture = pictures(*a_player(calls), OPTIONS)["timeline.svg"]
    check(picture)
    curve = re.compile(r'<path d="M([^"]*)" class="s s-ours" stroke-width="2"/>')
    assert [float(found[1].split()[0]) > 400 for found in curve.finditer(picture)] == [True]  # no line to the first dot


def test_names_are_shortened_where_they_are_alike_and_more_than_32_services_are_counted() -> None:
    calls = [call(0.0, 0.1, 0.1, f"a-service-with-a-very-long-name-in-zone-{number:03}") for number in range(40)]
    said = [box.text for box in check(pictures(*a_player(calls), OPTIONS)["balance.svg"])]
    assert any(text.startswith("…") and text.endswith("-007") for text in said)
    assert "and 8 more" in said


def test_a_trace_with_any_name_makes_a_picture() -> None:
    for name in ("x" * 300, "<&\"'>\x07", "日本"):
        for picture in pictures(*a_player(usual(20), name), OPTIONS).values():
            check(picture)


def test_where_nothing_was_answered_there_is_nothing_to_draw() -> None:
    assert pictures(*a_player([call(0, 1, 1, "", Ending.LOST)]), OPTIONS) == {}
    assert pictures(*a_player([]), OPTIONS) == {}
