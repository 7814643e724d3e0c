"""The policy `prefix`: its cost, among routers that share nothing, and where many want the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.fleet import Service
from enginehouse.core.shared import Shared
from enginehouse.policy.affinity import digest, home
from enginehouse.policy.choose import Choice, LoadView, choose
from enginehouse.policy.chunks import ENDS
from enginehouse.policy.prefix import cost_of
from enginehouse.policy.prefix_index import Touch
from enginehouse.policy.table import Table
from tests.policy.fleets import eject, service, services, shared, table
from tests.policy.prompts import said

NOW = 100.0


class Router:
    """One worker of a router of its own: chooses, reserves and learns as the worker does."""

    def __init__(self, members: tuple[Service, ...], memory: Shared | None = None, worker: int = 0) -> None:
        self.memory = memory or shared()
        self.view = LoadView(self.memory, 2)
        self.view.index.use(members)
        self.table: Table = table(*members)
        self.worker = worker
        self.turn = 0

    def choose(self, prompt: Prompt | None, session: str = "", tried: tuple[str, ...] = ()) -> Choice:
        self.turn += 1
        ask = Ask("m", session=session, prompt=prompt)
        choice = choose(self.table, ask, tried, self.view, NOW, self.turn, random.Random(1))
        assert isinstance(choice, Choice)
        return choice

    def send(self, prompt: Prompt, session: str = "") -> tuple[Choice, Touch]:
        """A request begins, and does not end."""
        choice = self.choose(prompt, session)
        assert choice.score is not None
        slot = choice.service.slot
        self.memory.loads[self.worker][slot] += 1
        self.memory.queued[self.worker][slot] += choice.score.uncached
        self.memory.held[self.worker][slot] += choice.score.tokens
        return choice, self.view.index.touch(choice.service, prompt, choice.score.running, choice.score.queued)

    def serve(self, prompt: Prompt, session: str = "") -> str:
        """A request begins and ends at once; who got it."""
        choice, _ = self.send(prompt, session)
        assert choice.score is not None
        self.memory.loads[self.worker][choice.service.slot] -= 1
        self.memory.queued[self.worker][choice.service.slot] -= choice.score.uncached
        self.memory.held[self.worker][choice.service.slot] -= choice.score.tokens
        return choice.service.name


# -- the cost ----------------------------------------------------------------------------------------------------------


def test_the_cost_is_an_estimate_of_the_seconds_until_the_first_token() -> None:
    assert cost_of(3000, 0, 0, 0.0, 30_000.0) == pytest.approx(0.1)
    assert cost_of(3000, 6000, 0, 0.0, 30_000.0) == pytest.approx(0.3)
    assert cost_of(0, 0, 20, 0.0, 30_000.0) == pytest.approx(0.06)
    assert cost_of(4096, 0, 20, 0.0, 4096.0) == pytest.approx(1.12)
    assert cost_of(0, 0, 0, 0.5, 30_000.0) == pytest.approx(0.3)
    assert cost_of(4096, 0, 20, 0.5, 4096.0) == pytest.approx(1.72)


def test_of_two_with_as_many_requests_the_one_whose_cache_is_less_full_gets_it() -> None:
    router = Router(services(1, 1))
    here, there = router.table.everyone.services
    for place, tokens in ((here, 200_000), (there, 100_000)):
        router.memory.loads[0][place.slot] = 8
        router.memory.held[0][place.slot] = tokens
    assert {router.choose(said(text)).service.name for text in range(20)} == {there.name}


def test_what_is_warm_counts_against_what_others_wait_for() -> None:
    """8 KiB of 9 are warm at the one, 2048 tokens; the other one gets the prompt when it has that much less to do."""
    router = Router(services(1, 1))
    here, there = router.table.everyone.services
    router.view.index.touch(here, said(1, 8))
    prompt = said(1, 8, tail=1024)
    assert router.choose(prompt).service is here
    router.memory.queued[1][here.slot] = 1900
    assert router.choose(prompt).service is here
    router.memory.queued[1][here.slot] = 2400
    assert router.choose(prompt).service is there


def test_a_service_of_twice_the_weight_may_have_twice_as_much_to_do() -> None:
    router = Router(services(1, 2))
    router.memory.queued[0][0], router.memory.queued[0][1] = 10_000, 19_000
    assert router.choose(said(1, 0, tail=100)).service.name == "s1"
    router.memory.queued[0][1] = 21_000
    assert router.choose(said(1, 0, tail=100)).service.name == "s0"


def test_equal_weights_do_not_matter_whatever_they_are() -> None:
    for weight in (1, 100):
        router = Router(services(weight, weight))
        router.memory.queued[0][0] = 3000
        choice = router.choose(said(1, 8))
        assert choice.score is not None
        assert choice.score.cost == pytest.approx(2049 / 30_000)


def test_a_slow_service_gets_less() -> None:
    members = services(1, 1)
    router = Router(members)
    for number in range(1, 40):
        touch = router.view.index.touch(members[0], said(number, 20), running=0)
        router.view.index.answered(touch, 10.0)
    assert {router.serve(said(number, 8)) for number in range(100, 130)} == {"s1"}


# -- ties --------------------------------------------------------------------------------------------------------------


def test_where_one_service_costs_hardly_more_than_another_it_is_the_same_as_well() -> None:
    """Else what each router has learned would decide, and each has learned something else."""
    members = services(1, 1, 1, 1)
    chosen = []
    for seed in (1, 2):
        router, rng = Router(members), random.Random(seed)
        for member in members:
            touch = router.view.index.touch(member, said(1), running=1)
            router.view.index.learn(touch, round(2048 * rng.uniform(0.93, 1.07)))
        chosen.append([router.choose(said(text, 8)).service.name for text in range(2, 40)])
    assert chosen[0] == chosen[1]


def test_who_joins_takes_only_its_part_of_what_is_warm_nowhere() -> None:
    before, after = Router(services(1, 1, 1)), Router(services(1, 1, 1, 1))
    homes = [(before.choose(said(text)).service.name, after.choose(said(text)).service.name) for text in range(190)]
    moved = [new for old, new in homes if old != new]
    assert set(moved) == {"s3"}
    assert 20 < len(moved) < 80


def test_short_prompts_take_turns() -> None:
    router = Router(services(1, 1, 1, 1))
    assert Counter(router.serve(said(0, 0, tail=300)) for _ in range(40)) == Counter(
        dict.fromkeys(["s0", "s1", "s2", "s3"], 10)
    )


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_stays_at_home_until_that_costs_more_than_a_second() -> None:
    router = Router(services(1, 1, 1))
    at_home = home(digest("me"), router.table.everyone.services)
    for text in range(5):
        choice = router.choose(said(text), "me")
        assert (choice.service, choice.reason) == (at_home, "session")
    router.memory.queued[0][at_home.slot] = 29_000
    assert router.choose(said(1), "me").service is at_home
    router.memory.queued[0][at_home.slot] = 31_000
    elsewhere = router.choose(said(1), "me")
    assert elsewhere.service is not at_home
    assert elsewhere.reason == "prefix"


def test_a_session_whose_home_is_out_has_another_one_meanwhile() -> None:
    router = Router(services(1, 1, 1))
    at_home = home(digest("me"), router.table.everyone.services)
    eject(router.memory, at_home.slot, NOW + 10)
    left = [each for each in router.table.everyone.services if each is not at_home]
    assert router.choose(said(1), "me").service is home(digest("me"), left)


# -- one prefix that all want ------------------------------------------------------------------------------------------


def test_what_all_want_does_not_pile_up_where_it_is_warm() -> None:
    """32 KiB in common, 400 requests that none of has ended: SGLang's threshold would send all of them to one."""
    router = Router(services(1, 1, 1, 1, 1, 1, 1, 1))
    got = Counter(router.send(said(text % 190 + 1, 15, common=14))[0].service.name for text in range(400))
    assert len(got) == 8
    assert max(got.values()) < 1.5 * min(got.values())


def test_a_prefix_that_few_want_stays_where_it_is_warm() -> None:
    router = Router(services(1, 1, 1, 1, 1, 1, 1, 1))
    assert len({router.serve(said(1, length)) for length in range(1, 30)}) == 1


# -- what is no prompt, and who is no candidate ------------------------------------------------------------------------


def test_a_request_without_a_prompt_goes_where_the_fewest_run() -> None:
    router = Router(services(1, 1, 1))
    router.memory.loads[0][0] = router.memory.loads[1][2] = 3
    choice = router.choose(None)
    assert (choice.service.name, choice.score) == ("s1", None)


def test_warmth_helps_nobody_who_was_tried_is_out_or_at_its_cap() -> None:
    members = (service("a", 0), service("b", 1), service("c", 2, capacity=2), service("d", 3))
    router = Router(members)
    for member in members[:3]:
        router.view.index.touch(member, said(1, 30))
    eject(router.memory, 1, NOW + 10)
    router.memory.loads[1][2] = 2
    assert router.choose(said(1, 30), tried=("a",)).service.name == "d"


@pytest.mark.parametrize("alone", [True, False])
def test_what_only_one_can_serve_counts_as_its_work_all_the_same(alone: bool) -> None:
    members = services(1) if alone else services(1, 1)
    router = Router(members)
    ask = Ask("m", remembered=-1 if alone else 0, prompt=said(1))
    choice = choose(router.table, ask, (), router.view, NOW, 0, random.Random(1))
    assert isinstance(choice, Choice)
    assert choice.reason == ("only" if alone else "remembered")
    assert choice.score is not None
    assert choice.score.uncached == 2049


def test_two_workers_choose_by_what_both_have_sent() -> None:
    memory, members = shared(), services(1, 1, 1, 1)
    pair = [Router(members, memory, 0), Router(members, memory, 1)]
    got = Counter(pair[number % 2].send(said(number % 190 + 1, 12))[0].service.name for number in range(80))
    assert max(got.values()) - min(got.values()) <= 4
    warm = pair[0].choose(said(7, 12))
    assert warm.score is not None
    assert warm.score.matched == ENDS[11]
