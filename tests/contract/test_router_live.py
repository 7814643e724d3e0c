"""What a router tells while it is watched: the live feed, with two workers in front of simulated engines."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.contract.following import Following, following
from tests.contract.router import Router, Sims, engines, running, send, static, until

FEED = "/dashboard/feed"
KEYS = {
    "time", "version", "synced", "policy", "actions", "totals", "models", "under_way", "full", "services", "recent",
    "events",
}  # fmt: skip
SECRET = "sk-very-secret"


@pytest.fixture(scope="module")
def sims() -> Iterator[Sims]:
    with engines(a={"models": ["m", "x"]}, slow={"models": ["slow"], "ttft": 30, "slots": 1}) as started:
        yield started


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, sims: Sims) -> Iterator[Router]:
    items = [static(sims["a"], weight=3), static(sims["slow"], metadata={"capacity": 1})]
    settings: dict[str, Any] = {"workers": 2, "queue_timeout": 60}
    with running(tmp_path_factory.mktemp("router"), items, **settings) as started:
        until(lambda: started.healthy() == set(sims), "healthy services")
        yield started


def row(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in told["services"] if each["name"] == name)


def test_the_first_object_tells_everything_and_the_next_what_is_different(router: Router, sims: Sims) -> None:
    with following(router, FEED) as feed:
        first = feed.next()
        assert first.keys() == KEYS | {"history"}
        assert (first["full"], first["synced"], first["policy"], first["actions"]) == (True, True, "prefix", False)
        assert abs(first["time"] - time.time()) < 60
        assert row(first, "a") | {"requests": 0, "rate": 0, "token_rate": 0, "ttft": None} == {
            "name": "a",
            "state": "up",
            "reason": "",
            "models": ["m", "x"],
            "in_flight": 0,
            "capacity": None,
            "waiting_tokens": 0,
            "requests": 0,
            "errors": 0,
            "rate": 0,
            "token_rate": 0,
            "ttft": None,
            "weight": 3,
            "url": sims["a"].url,
        }
        assert [(each["id"], each["services"], each["healthy"], each["policy"]) for each in first["models"]] == [
            ("m", 1, 1, "prefix"),
            ("slow", 1, 1, "prefix"),
            ("x", 1, 1, "prefix"),
        ]
        assert first["events"][0]["kind"] == "control_started"
        before = row(first, "a")["requests"]
        assert router.chat("x").status == 200
        told = feed.until(lambda told: told["services"], "a service that is different")
        assert [each["name"] for each in told["services"]] == ["a"]
        assert not told["full"]
        assert row(told, "a")["requests"] == before + 1
        assert row(told, "a")["rate"] > 0
        assert told["totals"]["rate"] > 0
        assert told["events"] == []


def test_who_comes_later_gets_everything_at_once_too(router: Router) -> None:
    with following(router, FEED) as one:
        one.next()
        with following(router, FEED) as two:
            first = two.next()
            assert first["full"]
            assert {each["name"] for each in first["services"]} == {"a", "slow"}
            assert first["events"]


def test_a_request_that_is_over_is_told_with_its_end_and_nothing_of_what_was_said(router: Router) -> None:
    with following(router, FEED) as feed:
        feed.next()
        feed.next()  # by now the workers know that somebody watches
        headers = {"authorization": f"Bearer {SECRET}", "x-request-id": "watched"}
        answer = router.chat("m", headers, stream=True, stream_options={"include_usage": True})
        assert answer.status == 200
        told = feed.until(lambda told: told["recent"], "a request that is over")
        (ended,) = told["recent"]
        assert SECRET not in str(told)
        assert "Say something" not in str(told)
        assert ended.pop("time") == pytest.approx(time.time(), abs=60)
        assert 0 < ended.pop("ttft_ms") <= ended.pop("ms")
        assert ended.pop("tokens_in") > 0
        assert ended == {
            "id": "watched",
            "model": "m",
            "service": "a",
            "status": 200,
            "outcome": "answered",
            "termination": "--",
            "tokens_out": 16,
            "reason": "only",
        }


def test_requests_of_those_who_watch_are_not_watched(router: Router) -> None:
    with following(router, FEED) as feed:
        feed.next()
        feed.next()
        for path in ("/services", "/health", "/events"):
            router.ask("GET", path)
        router.ask("GET", "/no-such/../path", headers={"x-request-id": "refused"})
        told = feed.until(lambda told: told["recent"], "the request that was refused")
        assert [(each["id"], each["status"], each["service"]) for each in told["recent"]] == [("refused", 400, "")]
        assert told["under_way"] == []


def test_requests_under_way_are_told_with_where_they_are(router: Router) -> None:
    """One is with the engine, the other waits, since the engine bears one at a time."""
    with following(router, FEED) as feed:
        feed.next()
        requests = [Asking(router, "slow", "r0")]
        try:
            # Two workers that decide in the same instant may both send one.
            feed.until(lambda told: [each["phase"] for each in told["under_way"]] == ["sent"], "a request that is sent")
            requests.append(Asking(router, "slow", "r1"))
            both = feed.until(lambda told: len(told["under_way"]) == 2, "two requests under way")
            assert {each["phase"] for each in both["under_way"]} == {"sent", "waiting"}
            assert {each["id"] for each in both["under_way"]} == {"r0", "r1"}
            assert {each["model"] for each in both["under_way"]} == {"slow"}
            assert [each["service"] for each in both["under_way"] if each["phase"] == "sent"] == ["slow"]
            model = next(each for each in both["models"] if each["id"] == "slow")
            assert model["in_flight"] == model["waiting"] == both["totals"]["waiting"] == 1
            later = feed.next()
            assert all(each["seconds"] > 0.5 for each in later["under_way"])
        finally:
            for request in requests:
                request.leave()
        over = feed.until(lambda told: told["under_way"] == [], "nothing under way")
        assert {each["outcome"] for each in over["recent"]} <= {"client_left"}


class Asking:
    """A request that is not waited for."""

    def __init__(self, router: Router, model: str, id: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=30)
        body = json.dumps({"model": model, "messages": []})
        self._connection.request("POST", "/v1/chat/completions", body, {"x-request-id": id})

    def leave(self) -> None:
        self._connection.close()


def test_a_feed_does_not_keep_a_router_from_ending_and_breaks_off_without_a_word(tmp_path: Path, sims: Sims) -> None:
    with running(tmp_path, [static(sims["a"])], drain_timeout=60) as router, following(router, FEED) as feed:
        feed.next()
        began = time.monotonic()
        router.process.send_signal(signal.SIGTERM)
        breaks_off(feed)
        router.process.wait(30)
        assert time.monotonic() - began < 30


def breaks_off(feed: Following) -> None:
    """Until the stream breaks off; no object says so, since a page would take it for one of the feed."""
    with contextlib.suppress(EOFError, http.client.HTTPException, OSError):
        while True:
            assert feed.next().keys() == KEYS


def test_after_a_restart_of_control_everything_is_told_anew(tmp_path: Path, sims: Sims) -> None:
    with running(tmp_path, [static(sims["a"])]) as router:
        router.until_healthy("a")
        with following(router, FEED) as feed:
            last = feed.next()["events"][-1]["id"]
            kill_control(router)
            breaks_off(feed)
        until(lambda: router.healthy() == {"a"}, "a router that knows its services again")
        with following(router, FEED) as feed:
            told = feed.next()
            assert told["full"]
            assert told["events"][0]["kind"] == "control_started"
            assert told["events"][0]["id"] > last, "ids go on, so who follows the events misses nothing"
            assert "worker_started" not in {event["kind"] for event in told["events"]}, "it was there all the time"


def kill_control(router: Router) -> None:
    (control,) = [child for child in psutil.Process(router.process.pid).children() if "control" in child.cmdline()]
    os.kill(control.pid, signal.SIGKILL)


def test_one_service_is_told_in_detail(router: Router, sims: Sims) -> None:
    router.ask("GET", "/dashboard/service/a")

    def is_there() -> bool:
        router.chat("m", {"x-request-id": "of-a"})
        told = router.ask("GET", "/dashboard/service/a").json
        return "of-a" in {each["id"] for each in told["recent"]}

    until(is_there, "a request of it that was watched")
    told = router.ask("GET", "/dashboard/service/a").json
    assert told.keys() == {"service", "details", "recent", "probes", "babysitter", "log"}
    assert told["service"] == router.service("a") | {"request_count": told["service"]["request_count"]} | {
        "response_time": told["service"]["response_time"]
    }
    assert told["details"]["state"] == "up"
    assert told["babysitter"] is told["log"] is None
    assert [probe["ok"] for probe in told["probes"]] == [True] * len(told["probes"])
    assert told["probes"][0]["ms"] > 0
    assert router.ask("GET", "/dashboard/service/nobody").status == 404


def test_sixty_four_may_follow_and_the_next_one_is_told_so(router: Router) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(following(router, FEED)).next()
        answer = send(router.url, "GET", FEED)
        assert answer.status == 503
        assert answer.header("retry-after")

    def has_place() -> bool:
        with contextlib.suppress(AssertionError), following(router, FEED) as feed:
            return bool(feed.next()["full"])
        return False

    until(has_place, "a place that was left")


def test_nothing_but_get_is_answered(router: Router) -> None:
    for path in (FEED, "/events", "/dashboard/service/a"):
        assert router.ask("POST", path, {}).status == 405
    head = router.ask("HEAD", FEED)
    assert (head.status, head.body) == (200, b"")
