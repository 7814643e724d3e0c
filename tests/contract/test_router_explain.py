"""Explaining and then sending, through a real router: in a quiet house both name the same service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enginehouse.data.worker import SWEEP
from tests.contract.router import Router, Sims, engines, running, static, until

WORDS = "All happy families are alike; each unhappy family is unhappy in its own way. "


@pytest.fixture(scope="module")
def sims() -> Iterator[Sims]:
    with engines(a={}, b={}, c={}, d={}) as started:
        yield started


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def router(sims: Sims, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Router]:
    directory = tmp_path_factory.mktemp("router")
    with running(directory, [static(sim) for sim in sims.values()], workers=request.param) as started:
        started.until_healthy(*sims)
        yield started


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": text}]} | fields


def explained(router: Router, body: Any, path: str = "/v1/chat/completions") -> dict[str, Any]:
    answer = router.ask("POST", "/explain" + path, body)
    assert answer.status == 200, answer
    assert answer.service == "router"
    return dict(answer.json)


def quiet(router: Router) -> None:
    """Wait until nothing runs, and each worker has seen what it taught the others: they look four times a second."""
    until(
        lambda: not any(service["in_flight"] for service in router.ask("GET", "/services").json["services"]),
        "a quiet house",
    )
    time.sleep(2 * SWEEP)


@pytest.mark.parametrize("size", [1200, 5000, 30_000])
def test_who_is_explained_to_get_a_conversation_gets_it_turn_by_turn(router: Router, size: int) -> None:
    """Each turn has all earlier ones in front, so that from the second on it is warm somewhere."""
    for talk in range(2):
        text, homes = f"{size} {talk} {WORDS * (size // len(WORDS))}", set()
        for turn in range(3):
            quiet(router)
            body = chat(f"{text} {turn} " * (turn + 1))
            told = explained(router, body)
            answer = router.ask("POST", "/v1/chat/completions", body)
            assert answer.status == 200
            assert told["service"] == answer.service, told
            assert (told["result"], told["reason"]) == ("service", "prefix")
            assert answer.header("x-enginehouse-reason").split()[0] == told["reason"]
            homes.add(answer.service)
        assert len(homes) == 1, "a conversation stays where it is warm"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "m", "max_tokens": 2, "prompt": "completions " + WORDS * 40}),
        ("/v1/responses", {"model": "m", "max_output_tokens": 2, "input": "responses " + WORDS * 40}),
        (
            "/v1/messages",
            {"model": "m", "max_tokens": 2, "system": WORDS * 40, "messages": [{"role": "user", "content": "x"}]},
        ),
    ],
)
def test_requests_of_every_api_are_explained_as_they_are_routed(router: Router, path: str, body: Any) -> None:
    for _ in range(2):
        quiet(router)
        told = explained(router, body, path)
        assert router.ask("POST", path, body).service == told["service"]
    assert told["services"][0]["matched_share"] > 0.8


def test_a_key_and_the_id_of_an_earlier_answer_are_explained_as_they_are_routed(router: Router) -> None:
    for key in "abcdef":
        keyed = chat("x", prompt_cache_key=key)
        told = explained(router, keyed)
        assert told["reason"] == "session"
        assert router.ask("POST", "/v1/chat/completions", keyed).service == told["service"]
    made = router.ask("POST", "/v1/responses", {"model": "m", "input": "x", "max_output_tokens": 2})
    asked: list[tuple[str, str, Any]] = [
        ("/v1/responses/" + made.json["id"], "GET", None),
        ("/v1/responses", "POST", {"model": "m", "input": "y", "previous_response_id": made.json["id"]}),
    ]
    for path, method, body in asked:
        told = router.ask(method, "/explain" + path, body).json
        assert (told["service"], told["reason"]) == (made.service, "remembered")
        assert {service["excluded"] for service in told["services"][1:]} == {"not_the_maker"}


def test_explaining_reaches_no_engine_counts_nothing_and_leaves_nothing_warm(router: Router, sims: Sims) -> None:
    quiet(router)  # what was asked before is counted by now
    before = [sim.stats()["requests"] for sim in sims.values()]
    counted = [service["request_count"] for service in router.ask("GET", "/services").json["services"]]
    body = chat("nothing of this is remembered " * 200)
    told = [explained(router, body) for _ in range(5)]
    assert all(each == told[0] for each in told)
    assert [service["matched_bytes"] for service in told[0]["services"]] == [0, 0, 0, 0]
    assert [service["in_flight"] for service in told[0]["services"]] == [0, 0, 0, 0]
    assert [sim.stats()["requests"] for sim in sims.values()] == before
    assert [service["request_count"] for service in router.ask("GET", "/services").json["services"]] == counted


def test_a_short_prompt_goes_to_one_of_those_that_are_said_to_share_it(router: Router) -> None:
    told = explained(router, chat("x"))
    shares = {service["name"]: service["share"] for service in told["services"] if service["share"]}
    assert told["result"] == "shared"
    assert router.ask("POST", "/v1/chat/completions", chat("x")).service in shares


def test_under_another_policy_the_explanation_is_that_ones(sims: Sims, tmp_path: Path) -> None:
    config = '[router.models.m]\npolicy = "least_load"\n'
    with running(tmp_path, [static(sim) for sim in sims.values()], config) as router:
        router.until_healthy(*sims)
        told = explained(router, chat(WORDS * 100))
        assert (told["policy"], told["result"], told["prompt"]) == ("least_load", "shared", None)
        assert {service["share"] for service in told["services"]} == {0.25}
