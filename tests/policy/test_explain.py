"""Explaining: it says what choosing does, whatever the state of the house, and touches nothing."""

from __future__ import annotations

import mmap
import random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.config.router import Policy
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import SIZE, Shared, Standing
from enginehouse.policy.choose import Busy, Choice, LoadView, Refusal, choose
from enginehouse.policy.chunks import prompt_of, seed_of
from enginehouse.policy.explain import Explanation, Judged, explain
from enginehouse.policy.line import line_at, place_of
from enginehouse.policy.table import MANY, Table
from tests.policy.fleets import service, services, table

NOW = 100.0
POLICIES = get_args(Policy)
SEED = seed_of("m")


def prompt(size: int, text: bytes = b"All happy families are alike. ") -> Prompt:
    return prompt_of((text * (size // len(text) + 1))[:size], SEED)


class House:
    """A table and the shared memory behind it, which explaining can only read."""

    def __init__(self, built: Table, **view: Any) -> None:
        buffer = memoryview(mmap.mmap(-1, SIZE))
        self.table = built
        self.shared = Shared(buffer)
        self._read_only = Shared(buffer.toreadonly())
        self._view = view

    def view(self, shared: Shared) -> LoadView:
        return LoadView(shared, 2, **self._view)

    def explain(self, ask: Ask | None = None) -> Explanation:
        return explain(self.table, ask or Ask("m"), self.view(self._read_only), self._read_only, NOW)

    def choose(self, ask: Ask, turn: int, rng: random.Random) -> Choice | Busy | Refusal:
        return choose(self.table, ask, (), self.view(self._read_only), NOW, turn, rng)

    def warm(self, name: str, text: Prompt) -> None:
        """A worker has sent a prompt there."""
        known = next(each for each in self.table.by_slot.values() if each.name == name)
        self.view(self.shared).index.touch(known, text)

    def judged(self, name: str, ask: Ask | None = None) -> Judged:
        return next(one for one in self.explain(ask).services if one.service.name == name)


def share(explained: Explanation) -> dict[str, float]:
    return {one.service.name: round(one.share, 3) for one in explained.services if one.share}


def chosen(explained: Explanation) -> str:
    """Who gets it for certain."""
    assert isinstance(explained.result, Choice)
    assert explained.services[0].share == 1.0, explained
    assert explained.services[0].service is explained.result.service
    return explained.result.service.name


# -- the same as choosing ----------------------------------------------------------------------------------------------

TIMES = st.sampled_from([0.0, NOW - 5.0, NOW + 5.0])
STANDINGS = st.builds(
    Standing,
    level=st.just(1),
    ejected_until=TIMES,
    undecided_until=TIMES,
    slow_from=st.just(NOW - 4.0),
    slow_until=st.sampled_from([0.0, 0.0, NOW + 1.0, NOW + 9.0]),
)
ASKS = st.builds(
    Ask,
    model=st.sampled_from(["m", "m", "m", "", "other", "alias?"]),
    session=st.sampled_from(["", "", "one", "two"]),
    remembered=st.sampled_from([-1, -1, -1, 0, 1]),
    cache_type=st.sampled_from(["", "", "static", "paged"]),
    prompt=st.sampled_from([None, prompt(300), prompt(5000), prompt(20_000)]),
    policy=st.sampled_from(["", "", "", *POLICIES]),
)


@st.composite
def houses(draw: st.DrawFn) -> House:
    count = draw(st.integers(0, 5))
    members = [
        service(
            f"s{slot}",
            slot,
            weight=draw(st.sampled_from([1, 1, 2, 5])),
            up=draw(st.sampled_from([True, True, True, False])),
            models=draw(st.sampled_from([("m",), ("m",), ("m", "other"), ()])),
            capacity=draw(st.sampled_from([0, 0, 2])),
            cache_type=draw(st.sampled_from(["", "static", "paged"])),
        )
        for slot in range(count)
    ]
    policy: Any = draw(st.sampled_from(("prefix", *POLICIES)))
    house = House(table(*members, policy=policy, known=("m",)), capacity=draw(st.sampled_from([0, 0, 3])))
    for slot in range(count):
        house.shared.put(slot, draw(STANDINGS))
        house.shared.rest_until[slot] = draw(TIMES)
        house.shared.loads[slot % 2][slot] = draw(st.integers(0, 3))
        house.shared.queued[slot % 2][slot] = draw(st.sampled_from([0, 0, 9000]))
        if draw(st.booleans()):
            house.warm(f"s{slot}", prompt(draw(st.sampled_from([3000, 12_000]))))
    house.shared.latest_ejection[0] = NOW + 10.0
    return house


@settings(max_examples=300, deadline=None)
@given(house=houses(), ask=ASKS, turn=st.integers(0, 20), seed=st.integers(0, 5))
def test_what_is_explained_is_what_a_worker_does_at_that_moment(house: House, ask: Ask, turn: int, seed: int) -> None:
    explained = house.explain(ask)
    done = house.choose(ask, turn, random.Random(seed))
    likely = {one.service.name for one in explained.services if one.share}
    candidates = {one.service.name for one in explained.services if not one.bar}
    assert likely <= candidates
    assert all(one.why for one in explained.services if one.bar), "whoever is left out is told why"
    assert len(explained.services) == len(house.table.by_slot)
    if isinstance(explained.result, Choice):
        assert isinstance(done, Choice)
        assert done.service.name in likely
        assert sum(one.share for one in explained.services) == pytest.approx(1.0)
        if len(likely) == 1:
            assert done.service is explained.result.service
            assert explained.services[0].score == done.score
    else:
        assert done == explained.result
        assert not likely


# -- what it says ------------------------------------------------------------------------------------------------------


def test_the_warmest_service_is_chosen_and_the_cost_of_each_is_told() -> None:
    house = House(table(*services(1, 1)))
    house.warm("s1", prompt(16_384))
    explained = house.explain(Ask("m", prompt=prompt(20_480)))
    assert chosen(explained) == "s1"
    first, second = explained.services
    assert first.score is not None
    assert second.score is not None
    assert (first.score.matched, second.score.matched) == (16_384, 0)
    assert 0 < first.score.uncached < second.score.uncached
    assert "soonest" in explained.says
    assert f"{1000 * second.score.cost:.1f} ms" in explained.says


def test_where_nothing_is_warm_a_long_prompt_has_a_home_and_a_short_one_takes_turns() -> None:
    house = House(table(*services(1, 1, 1)))
    long = house.explain(Ask("m", prompt=prompt(20_000)))
    assert chosen(long) in ("s0", "s1", "s2")
    assert "home" in long.says
    short = house.explain(Ask("m", prompt=prompt(500)))
    assert share(short).keys() == {"s0", "s1", "s2"}
    assert "too short" in short.says


@pytest.mark.parametrize(
    ("policy", "shares", "word"),
    [
        ("round_robin", {"s0": 0.75, "s1": 0.25}, "turns"),
        ("session", {"s0": 0.75, "s1": 0.25}, "no key"),
        ("least_load", {"s0": 0.75, "s1": 0.25}, "fewest"),
    ],
)
def test_where_workers_take_turns_the_share_of_each_is_told(policy: Any, shares: Any, word: str) -> None:
    explained = House(table(*services(3, 1), policy=policy)).explain()
    assert share(explained) == shares
    assert word in explained.says


@pytest.mark.parametrize("policy", ["random", "two_choices"])
def test_where_chance_decides_the_share_of_each_is_nearly_told(policy: Any) -> None:
    explained = House(table(*services(1, 1), policy=policy)).explain()
    assert share(explained) == {"s0": pytest.approx(0.5, abs=0.1), "s1": pytest.approx(0.5, abs=0.1)}


def test_a_session_has_its_home_and_what_it_costs_more_there_is_told() -> None:
    house = House(table(*services(1, 1)))
    ask = Ask("m", session="m:prompt_cache:x", prompt=prompt(20_000))
    at_home = chosen(house.explain(ask))
    house.warm("s1" if at_home == "s0" else "s0", prompt(20_000))
    explained = house.explain(ask)
    assert chosen(explained) == at_home
    assert isinstance(explained.result, Choice)
    assert explained.result.reason == "session"
    assert "ms more than the cheapest" in explained.says


def test_only_the_maker_of_an_id_comes_into_question() -> None:
    house = House(table(*services(1, 1)))
    explained = house.explain(Ask("", remembered=1))
    assert chosen(explained) == "s1"
    assert house.judged("s0", Ask("", remembered=1)).bar == "not_the_maker"


def test_a_maker_at_its_cap_is_waited_for() -> None:
    house = House(table(*services(1, 1, capacity=1)))
    house.shared.loads[0][1] = 1
    ask = Ask("", remembered=1)
    result = house.explain(ask).result
    assert isinstance(result, Busy)
    assert result.line == line_at(service("s1"))
    assert (house.judged("s1", ask).bar, house.judged("s0", ask).bar) == ("full", "not_the_maker")


@pytest.mark.parametrize(
    ("standing", "bar", "words"),
    [
        (Standing(1, NOW + 7, NOW + 17), "ejected", "another 7.0 s"),
        (Standing(1, NOW - 1, NOW + 9), "", "trial"),
        (Standing(1, slow_from=NOW - 5, slow_until=NOW + 5), "", "55% of its share"),
    ],
)
def test_what_its_requests_have_brought_a_service_is_told(standing: Standing, bar: str, words: str) -> None:
    house = House(table(*services(1, 1, 1)))
    house.shared.put(0, standing)
    judged = house.judged("s0")
    assert judged.bar == bar
    assert words in judged.why


def test_a_service_that_has_come_back_gets_less_than_its_share() -> None:
    house = House(table(*services(1, 1)))
    house.shared.put(0, Standing(1, slow_from=NOW - 5, slow_until=NOW + 5))
    ask = Ask("m", prompt=prompt(500))
    assert 0.2 < share(house.explain(ask))["s0"] < 0.35


def test_the_warmest_service_gets_only_its_part_of_the_requests_while_it_has_just_come_back() -> None:
    house = House(table(*services(1, 1)))
    house.warm("s0", prompt(20_000))
    house.shared.put(0, Standing(1, slow_from=NOW - 5, slow_until=NOW + 5))
    explained = house.explain(Ask("m", prompt=prompt(20_000)))
    assert share(explained) == {"s0": pytest.approx(0.55, abs=0.1), "s1": pytest.approx(0.45, abs=0.1)}
    assert "just come back" in explained.says


def test_a_service_that_rests_is_left_out_and_told_so_while_others_are_there() -> None:
    house = House(table(*services(1, 1)))
    house.shared.rest(0, NOW + 3)
    judged = house.judged("s0")
    assert (judged.bar, "3.0 s" in judged.why) == ("rests", True)


def test_where_all_are_ejected_they_are_candidates_all_the_same_and_that_is_told() -> None:
    house = House(table(*services(1, 1)))
    for slot in (0, 1):
        house.shared.put(slot, Standing(1, NOW + 7, NOW + 17))
    judged = house.judged("s0")
    assert judged.bar == ""
    assert "nobody else is left" in judged.why


def test_caps_are_told_and_where_all_are_full_the_request_would_wait() -> None:
    house = House(table(service("a", 0, capacity=2), service("b", 1)), capacity=3)
    house.shared.loads[0][0] = 2
    assert (house.judged("a").bar, house.judged("a").cap) == ("full", 2)
    assert house.judged("a").why == "it is at its cap: 2 of 2 requests in flight"
    house.shared.loads[1][1] = 3
    explained = house.explain()
    assert isinstance(explained.result, Busy)
    assert "wait" in explained.says


def test_a_newcomer_would_wait_behind_those_who_wait_in_any_worker() -> None:
    house = House(table(*services(1, 1)))
    house.shared.crowded[0] = 1
    house.shared.waiting[1] = 1
    house.shared.turns[1][place_of("m")] = NOW
    explained = house.explain()
    assert explained.result == Busy("m", Refusal(Outcome.QUEUE_FULL, "m"))
    assert "Others wait" in explained.says
    assert isinstance(house.explain(Ask("m", remembered=1)).result, Choice), "what only one can answer waits elsewhere"


def test_services_of_other_models_babysitters_and_those_that_are_down_are_told_apart() -> None:
    house = House(
        table(
            service("here", 0),
            service("other", 1, models=("x",)),
            service("down", 2, up=False),
            service("sitter", 3, inference=False),
        )
    )
    bars = {one.service.name: one.bar for one in house.explain().services}
    assert bars == {"here": "", "other": "other_model", "down": "down", "sitter": "no_engine"}
    assert chosen(house.explain()) == "here"


def test_another_type_of_cache_is_left_out_while_the_preferred_one_is_there() -> None:
    house = House(table(service("s", 0, cache_type="static"), service("p", 1, cache_type="paged")))
    judged = house.judged("s", Ask("m", cache_type="paged"))
    assert (judged.bar, "paged" in judged.why) == ("other_cache_type", True)


def test_a_model_that_nobody_serves_is_refused_and_every_service_says_that_it_has_others() -> None:
    explained = House(table(*services(1, 1))).explain(Ask("x"))
    assert explained.result == Refusal(Outcome.MODEL_UNKNOWN, "x")
    assert {one.why for one in explained.services} == {"it does not serve x"}


def test_of_very_many_services_all_that_a_session_is_not_looked_for_in_are_told_so() -> None:
    house = House(table(*services(*[1] * (4 * MANY)), policy="session"))
    explained = house.explain(Ask("m", session="one"))
    bars = {one.bar for one in explained.services}
    assert bars == {"", "other_part"}
    assert chosen(explained)


def test_of_very_many_services_each_one_has_its_share_of_the_turns() -> None:
    house = House(table(*services(*[1] * (2 * MANY)), policy="least_load"))
    assert len(share(house.explain())) == 2 * MANY


def test_of_very_many_services_the_cheapest_may_be_one_that_is_not_looked_at_and_that_is_told() -> None:
    house, text = House(table(*services(*[1] * 300))), prompt(9000)
    house.warm("s7", text)  # in a house that notes nowhere who was given what
    assert "only some are looked at" in house.explain(Ask("m", prompt=text)).says
    for slot in range(300):
        house.warm(f"s{slot}", text)
    assert "practically the same" in house.explain(Ask("m", prompt=text)).says
