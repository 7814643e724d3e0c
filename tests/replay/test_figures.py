"""Figures: against the plainest way of working them out, and by examples worked out by hand."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.replay.call import Call, Ending
from enginehouse.replay.figures import Figures, figures, percentile, spread
from enginehouse.replay.traces import Turn

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
BEGAN = 1000.0


def call(
    due: float = 0.0,
    first: float = 1.0,
    end: float = 2.0,
    *,
    ending: Ending = Ending.ANSWERED,
    detail: str = "",
    service: str = "a",
    prompt: int = 100,
    completion: int = 11,
    cached: int = -1,
    attempts: int = 1,
    late: float = 0.0,
) -> Call:
    """A call due so many seconds after the beginning, with the first token and the end so many seconds after that."""
    made = Call(0, Turn(90, 10, (1,)), BEGAN + due)
    made.sent = made.due + late
    made.first, made.end = (made.due + first if first else 0.0), made.due + end
    made.ending, made.detail, made.service, made.attempts = ending, detail, service, attempts
    made.prompt, made.completion, made.cached = prompt, completion, cached
    return made


def told(
    *calls: Call, planned: int = 0, lags: tuple[float, ...] = (), scale: float = 1.0, services: int = 0
) -> Figures:
    return figures(calls, planned=planned or len(calls), began=BEGAN, lags=lags, time_scale=scale, services=services)


@given(VALUES)
def test_a_spread_is_what_numpy_and_the_standard_library_say(values: list[float]) -> None:
    found = spread(values)
    assert found
    assert found.count == len(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert [found.p50, found.p90, found.p99, found.max] == pytest.approx(
        [float(each) for each in np.percentile(values, [50, 90, 99, 100])]
    )


@given(VALUES, st.floats(0, 1))
def test_a_percentile_lies_among_the_values_and_grows_with_its_part(values: list[float], part: float) -> None:
    ordered = sorted(values)
    at = percentile(ordered, part)
    assert ordered[0] <= at <= ordered[-1]
    assert at <= percentile(ordered, min(1.0, part + 0.1)) + 1e-9 * ordered[-1]


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None
    nothing = told()
    assert (nothing.asked, nothing.model.ttft, nothing.model.goodput, nothing.objective.share) == (0, None, 0.0, 0.0)


TIMES = st.floats(0.001, 3)
CALLS = st.lists(
    st.builds(
        lambda due, first, rest, ending, service, completion, cached: call(
            due, first, first + rest, ending=ending, service=service, completion=completion, cached=cached
        ),
        TIMES,
        TIMES,
        TIMES,
        st.sampled_from([*[Ending.ANSWERED] * 12, *Ending]),
        st.sampled_from(["a", "b", "", "-"]),
        st.integers(1, 50),
        st.sampled_from([-1, 0, 64]),
    ),
    min_size=1,
    max_size=60,
)


@given(CALLS, st.sampled_from([1.0, 0.5, 8.0]))
def test_figures_are_what_the_plainest_way_gives(calls: list[Call], scale: float) -> None:
    found = told(*calls, scale=scale)
    answered = [c for c in calls if c.ending == "answered"]
    over = [c for c in calls if c.ending != "unfinished"]
    assert (found.asked, found.answered, found.unfinished) == (len(calls), len(answered), len(calls) - len(over))
    assert sum(found.errors.values()) == len(over) - len(answered)
    if over:
        seconds = max(c.end for c in over) - BEGAN
        assert found.wall.seconds == pytest.approx(seconds)
        assert found.model.seconds == pytest.approx(seconds * scale)
    if not answered:
        return
    met = 0
    for c in answered:
        fast = (c.first - c.due) * scale <= 2.0
        met += fast and (c.completion == 1 or (c.end - c.first) / (c.completion - 1) * scale <= 0.1)
    assert found.objective.met == met
    assert found.objective.share == pytest.approx(met / len(over))
    assert found.model.goodput == pytest.approx(met / seconds / scale)
    assert found.wall.goodput == pytest.approx(met / seconds)
    assert found.model.ttft
    assert found.wall.ttft
    assert found.model.ttft.mean == pytest.approx(statistics.fmean((c.first - c.due) * scale for c in answered))
    assert found.model.ttft.p90 == pytest.approx(found.wall.ttft.p90 * scale)
    telling = [c for c in answered if c.cached >= 0]
    assert found.tokens.told == len(telling)
    if telling:
        assert found.tokens.hit_share == pytest.approx(sum(c.cached for c in telling) / sum(c.prompt for c in telling))
    assert [service.name for service in found.services] == sorted({c.service for c in calls} - {"", "-"})
    for service in found.services:
        own = [c for c in calls if c.service == service.name]
        assert service.requests == len(own)
        assert service.output == sum(c.completion for c in own if c.ending == "answered")
        assert service.computed == sum(c.prompt - max(0, c.cached) for c in own if c.ending == "answered")


def test_one_answer_worked_out_by_hand_at_ten_times_the_speed() -> None:
    """Due at 0.5 s, first token 0.1 s later, eleven tokens by 0.3 s: at ten times the speed 1 s and 0.2 s a token."""
    found = told(call(0.5, 0.1, 0.3, cached=40), scale=10.0)
    assert found.model.ttft
    assert found.model.tpot
    assert found.model.end_to_end
    assert found.model.ttft.mean == pytest.approx(1.0)
    assert found.model.tpot.mean == pytest.approx(0.2)
    assert found.model.end_to_end.mean == pytest.approx(3.0)
    assert found.model.seconds == pytest.approx(8.0)
    assert found.objective.met == 0  # 0.2 s a token is more than 0.1 s
    assert found.model.output_tokens_per_second == pytest.approx(11 / 8)
    assert found.tokens.hit_share == pytest.approx(0.4)
    assert found.services[0].in_flight == pytest.approx(0.3 / 0.8)


def test_an_engine_that_counts_nothing_is_taken_at_its_events_and_the_traces_word() -> None:
    quiet = call(prompt=-1, completion=-1)
    quiet.events = 14  # the role, eleven tokens, the end, [DONE]
    found = told(quiet)
    assert (found.tokens.output, found.tokens.prompt, found.tokens.hit_share) == (11, 90, None)
    assert found.model.tpot
    assert found.model.tpot.mean == pytest.approx(0.1)


def test_errors_are_counted_by_kind_the_most_frequent_first_and_rejects_apart() -> None:
    found = told(
        call(ending=Ending.LOST, detail="closed by the other side"),
        *[call(ending=Ending.REJECTED, detail="503 server_is_overloaded")] * 2,
        call(ending=Ending.SILENT),
        call(),
        planned=9,
    )
    assert list(found.errors) == [
        "rejected: 503 server_is_overloaded",
        "connection lost: closed by the other side",
        "silent",
    ]
    assert (found.rejected, found.answered, found.asked, found.planned) == (2, 1, 5, 9)


def test_retries_of_the_router_are_the_attempts_after_the_first() -> None:
    assert told(call(attempts=0), call(attempts=1), call(attempts=3)).retries == 2


def test_balance_is_the_highest_over_the_mean_and_who_got_nothing_counts_when_known() -> None:
    calls = [call(service="a"), call(service="a"), call(service="a"), call(service="b")]
    assert told(*calls).balance.requests == pytest.approx(1.5)
    assert told(*calls, services=4).balance.requests == pytest.approx(3.0)
    assert told(call(service="")).balance.requests is None


def test_figures_are_void_where_the_client_was_late_itself() -> None:
    on_time = [call(first=0.2, late=0.001) for _ in range(100)]
    assert told(*on_time, lags=(0.001,) * 50).lateness.void == ""
    late = [call(first=0.2, late=0.020) for _ in range(100)]
    assert "late by 20.0 ms in the mean, where the time to the first token is 200.0 ms" in told(*late).lateness.void


def test_figures_are_void_where_the_client_looked_at_its_sockets_late() -> None:
    on_time = [call(first=0.2, late=0.001) for _ in range(100)]
    always = told(*on_time, lags=(0.015,) * 50)
    assert "late by 16.0 ms in the mean" in always.lateness.void
    sometimes = told(*on_time, lags=(0.0,) * 980 + (0.1,) * 20)
    assert "late by 100.0 ms at the 99th percentile" in sometimes.lateness.void


def test_a_late_client_does_not_matter_where_engines_are_slow() -> None:
    assert told(*[call(first=5.0, late=0.020) for _ in range(100)]).lateness.void == ""


def test_a_request_sent_a_little_early_is_not_late() -> None:
    found = told(call(late=-0.0004))
    assert found.lateness.send
    assert found.lateness.send.mean == 0.0
