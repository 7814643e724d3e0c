"""Health as clients and owners of a router with two worker processes see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.router import Router, Sims, engines, running, send, static, until, worker_of

LASTS = 1.0


@pytest.fixture
def sims() -> Iterator[Sims]:
    with engines(ill={"models": ["m"]}, b={"models": ["m"]}, c={"models": ["m"]}) as started:
        yield started


@pytest.fixture
def router(tmp_path: Path, sims: Sims) -> Iterator[Router]:
    items = [static(sim) for sim in sims.values()]
    with running(tmp_path, items, workers=2, ejection_time=LASTS, slow_start=0) as started:
        started.until_healthy(*sims)
        yield started


def faults(sims: Sims, *wanted: str) -> None:
    send(sims["ill"].url, "POST", "/sim/faults", {"faults": list(wanted)})


def requests(sims: Sims) -> int:
    told = json.loads(send(sims["ill"].url, "GET", "/sim/stats").body)
    return int(told["requests"])


def details(router: Router) -> dict[str, object]:
    return dict(router.ask("GET", "/stats").json["details"]["ill"])


def test_an_engine_that_resets_is_out_for_both_workers_is_tried_and_comes_back(router: Router, sims: Sims) -> None:
    faults(sims, "reset:after=-1")
    workers: set[str] = set()
    before = requests(sims)
    for _ in range(40):
        answer = router.chat()
        assert answer.status == 200
        workers.add(worker_of(answer))
    assert len(workers) == 2
    until(lambda: router.service("ill")["ejection_count"] >= 1, "an ejection that is counted")
    until(lambda: router.service("ill")["error_count"] >= 3, "failures that are counted")
    assert requests(sims) - before <= 12, "three in a row, and one after each doubled time"
    faults(sims)
    until(lambda: router.chat().service == "ill", "a trial that went well")
    until(lambda: router.service("ill")["healthy"], "a healthy service")
    until(lambda: {router.chat().service for _ in range(6)} == set(sims), "its part of the requests")


def test_an_engine_that_answers_500_is_out_and_one_that_refuses_rests(router: Router, sims: Sims) -> None:
    faults(sims, "status:code=500")
    until(lambda: router.chat().status == 200 and details(router)["state"] == "ejected", "an ejection")
    assert router.service("ill")["error_count"] == 0
    assert router.service("ill")["server_error_count"] >= 6  # those of 20 that are too many
    faults(sims, "status:code=429,seconds=600")

    def rests() -> object:
        assert router.chat().status == 200
        return details(router)["rests_for"]

    until(rests, "a rest")
    until(lambda: router.service("ill")["rejection_count"] >= 1, "a rejection that is counted")
    before = requests(sims)
    assert {router.chat().service for _ in range(10)} == {"b", "c"}
    assert requests(sims) == before
