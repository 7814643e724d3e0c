"""Caps and lines of a whole router with two workers: what is too much for its engines waits, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.contract.router import DEADLINE, Answer, Router, engines, running, static, until, worker_of
from tests.ports import Ports


def at_once(count: int, ask: Callable[[int], Answer]) -> list[Answer]:
    """So many requests at the same time, each on a connection of its own."""
    together = threading.Barrier(count)

    def one(number: int) -> Answer:
        together.wait(DEADLINE)
        return ask(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def waiting(router: Router) -> int:
    return int(router.ask("GET", "/stats").json["waiting"])


def test_what_is_too_much_for_an_engine_waits_in_all_workers_and_every_request_is_answered(tmp_path: Path) -> None:
    """Defect: No metrics, no tracing, no auth, no queue, no drain."""
    with engines(a={"ttft": 0.02}) as sims:
        item = static(sims["a"], metadata={"capacity": 3})
        with running(tmp_path, [item], workers=2, queue_timeout=60) as router:
            router.until_healthy("a")
            answers = at_once(40, lambda _: router.chat())
            assert Counter(answer.status for answer in answers) == {200: 40}
            assert len({worker_of(answer) for answer in answers}) == 2
            # Two workers that decide in the same instant may exceed a cap by one.
            assert sims["a"].stats()["most_active"] <= 4
            waited = [answer for answer in answers if answer.all("x-enginehouse-queue-position")]
            assert len(waited) >= 30
            assert all(int(answer.header("x-enginehouse-queue-ms")) >= 0 for answer in waited)
            told = router.service("a")
            assert (told["capacity"], told["in_flight"]) == (3, 0)
            assert waiting(router) == 0


def test_a_busy_client_does_not_keep_another_one_waiting_behind_all_that_it_has_sent(tmp_path: Path) -> None:
    with engines(a={"ttft": 0.05}) as sims:
        item = static(sims["a"], metadata={"capacity": 1})
        with running(tmp_path, [item], queue_timeout=60) as router, ThreadPoolExecutor(30) as pool:
            router.until_healthy("a")
            busy = [pool.submit(router.chat, headers={"authorization": "Bearer busy"}) for _ in range(25)]
            until(lambda: waiting(router) >= 20, "the busy client's line")
            other = router.chat(headers={"authorization": "Bearer other"})
            assert (other.status, other.header("x-enginehouse-queue-position")) == (200, "2")
            assert waiting(router) >= 10
            assert {future.result(DEADLINE).status for future in busy} == {200}


def test_what_is_beyond_the_line_is_refused_quickly_and_honestly(tmp_path: Path) -> None:
    with engines(a={}) as sims:
        item = static(sims["a"], metadata={"capacity": 1})
        with running(tmp_path, [item], queue_size=2, queue_timeout=60) as router, ThreadPoolExecutor(8) as pool:
            router.until_healthy("a")
            sims["a"].set_faults("silent:seconds=3,times=1")
            held = pool.submit(router.chat)
            until(lambda: sims["a"].stats()["active"] == 1, "the request that holds the place")
            line = [pool.submit(router.chat) for _ in range(2)]
            until(lambda: waiting(router) == 2, "a full line")
            refused = router.chat()
            assert (refused.status, refused.error["code"]) == (503, "server_is_overloaded")
            assert int(refused.header("retry-after")) >= 1
            assert (refused.service, refused.header("x-enginehouse-attempts")) == ("-", "0")
            assert {future.result(DEADLINE).status for future in (held, *line)} == {200}


def test_requests_wait_for_an_engine_that_is_still_loading(tmp_path: Path) -> None:
    with engines(a={"ready_after": 1.0}) as sims:
        item = static(sims["a"], metadata={"models": ["m"]})
        with running(tmp_path, [item], workers=2, queue_timeout=60, health_interval=0.2) as router:
            until(router.ready, "workers with a fleet")
            answers = at_once(8, lambda _: router.chat())
            assert Counter(answer.status for answer in answers) == {200: 8}


def test_what_is_asked_while_the_only_engine_is_restarted_waits_for_it(tmp_path: Path, ports: Ports) -> None:
    port = ports.one()
    with (
        engines(a={"port": port}) as sims,
        running(tmp_path, [static(sims["a"])], workers=2, queue_timeout=60, health_interval=0.2) as router,
        ThreadPoolExecutor(8) as pool,
    ):
        router.until_healthy("a")
        sims["a"].kill9()
        asked = [pool.submit(router.chat) for _ in range(8)]
        until(lambda: waiting(router) == 8, "all of them wait")
        until(lambda: not router.healthy(), "the end of the engine is known")
        with engines(a={"port": port}):
            assert {future.result(DEADLINE).status for future in asked} == {200}


def test_a_worker_that_is_killed_frees_the_places_that_its_requests_held(tmp_path: Path) -> None:
    with engines(a={}) as sims:
        item = static(sims["a"], metadata={"capacity": 1})
        with running(tmp_path, [item], workers=2, queue_timeout=60) as router, ThreadPoolExecutor(30) as pool:
            router.until_healthy("a")
            sims["a"].set_faults("silent:seconds=3600")
            lost = [pool.submit(attempt, router) for _ in range(12)]
            until(lambda: sims["a"].stats()["active"] == 1 and waiting(router) == 11, "a line in both workers")
            port = sims["a"].port  # the other worker may keep an idle connection for a while
            until(lambda: sum(talks_to(process, port) for process in router.workers()) == 1, "one that talks to it")
            holder = next(process for process in router.workers() if talks_to(process, port))
            sims["a"].set_faults()
            os.kill(holder.pid, signal.SIGKILL)
            found = Counter(future.result(DEADLINE) for future in lost)
            assert found[200] >= 1
            assert found[200] + found[0] == 12
            until(lambda: waiting(router) == 0, "no line is left")
            assert router.chat().status == 200


def talks_to(process: psutil.Process, port: int) -> bool:
    """Has it a connection to this port now?"""
    return any(line.status == psutil.CONN_ESTABLISHED and line.raddr.port == port for line in process.net_connections())


def attempt(router: Router) -> int:
    """The status of an answer; 0 where the connection was lost with its worker."""
    try:
        return router.chat().status
    except OSError:
        return 0


def test_what_an_engine_bears_can_be_learned(tmp_path: Path) -> None:
    with engines(a={}) as sims, running(tmp_path, [static(sims["a"])], learn_capacity=True, workers=2) as router:
        router.until_healthy("a")
        assert router.service("a")["capacity"] is None
        sims["a"].set_faults("status:code=429,times=1")
        assert router.chat().status == 429
        assert router.service("a")["capacity"] == 1
        assert {router.chat().status for _ in range(3)} == {200}
        assert router.service("a")["capacity"] > 1


@pytest.mark.parametrize("workers", [1, 2])
def test_at_three_times_what_the_engines_bear_they_stay_busy_and_the_rest_is_told_so(
    tmp_path: Path, workers: int
) -> None:
    """Overload: goodput stays at its maximum, the rest is refused, nobody is left without an answer."""
    with engines(a={"ttft": 0.02}, b={"ttft": 0.02}) as sims:
        items = [static(sim, metadata={"capacity": 2}) for sim in sims.values()]
        with running(tmp_path, items, workers=workers, queue_size=8, queue_timeout=0.3) as router:
            router.until_healthy("a", "b")
            end = time.monotonic() + 2.0
            seen: Counter[int] = Counter()

            def go_on(_: int) -> None:
                while time.monotonic() < end:
                    seen[router.chat().status] += 1

            with ThreadPoolExecutor(24) as pool:
                list(pool.map(go_on, range(24)))
            assert seen.keys() <= {200, 503}
            assert seen[200] > 20  # the engines could answer about 400 on a machine with nothing else to do
            assert waiting(router) == 0
