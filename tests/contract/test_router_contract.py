"""The router's own endpoints and what every answer of it carries, seen from outside: exact shapes and statuses."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.router import Router, engines, running, send, static, until, write
from tests.e2e.engines import SimProcess
from tests.ports import Ports
from tests.registry.running import RegistryProcess, service

SERVICE = {
    "name": str,
    "host": str,
    "port": int,
    "url": str,
    "babysitter_url": str,
    "healthy": bool,
    "request_count": int,
    "error_count": int,
    "response_time": float,
    "weight": int,
    "models": list,
    "metadata": dict,
    # added to what was inherited
    "server_error_count": int,
    "rejection_count": int,
    "ejection_count": int,
}


class House:
    """A router in front of two engines, and one that is not there."""

    def __init__(self, router: Router, sims: dict[str, SimProcess], nobody: int) -> None:
        self.router = router
        self.sims = sims
        self.nobody = nobody


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    ports = Ports()
    listed = [{"id": "org/big", "object": "model", "owned_by": "a"}, {"id": "m"}, {"id": "m", "owned_by": "twice"}]
    with engines(a={"models": ["org/big", "m"]}, b={"models": ["m", "zoo"]}) as sims:
        nobody = ports.one()
        items = [
            static(sims["a"], weight=3, metadata={"type": "openai-api", "models_list": listed}),
            static(sims["b"], metadata={"type": "openai-api", "models": ["zoo", "m"]}),
            {"name": "gone", "host": "127.0.0.1", "port": nobody, "metadata": {"models": ["lost"]}},
        ]
        with running(tmp_path_factory.mktemp("router"), items) as router:
            router.until_healthy("a", "b")
            yield House(router, sims, nobody)
    ports.release()


@pytest.fixture
def router(house: House) -> Router:
    return house.router


def is_now(timestamp: str) -> bool:
    """RFC 3339 with an offset of zero, about now."""
    then = datetime.fromisoformat(timestamp)
    assert then.utcoffset() == timedelta(0)
    return abs(then.timestamp() - time.time()) < 60


@pytest.mark.parametrize(("path", "status"), [("/health", "healthy"), ("/status", "running")])
def test_health_and_status_count_services(router: Router, path: str, status: str) -> None:
    answer = router.ask("GET", path)
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    told = answer.json
    assert is_now(told.pop("timestamp"))
    assert told.pop("message")
    assert told == {"status": status, "router": "running", "healthy_services": "2/3", "registry_url": None}


@pytest.mark.parametrize("path", ["/health", "/status"])
def test_without_healthy_services_health_is_still_200_and_says_so(tmp_path: Path, ports: Ports, path: str) -> None:
    with running(tmp_path, [{"name": "x", "host": "127.0.0.1", "port": ports.one()}]) as router:
        until(router.ready, "workers with a fleet")
        answer = router.ask("GET", path)
        assert answer.status == 200
        assert answer.json["healthy_services"] == "0/1"
        assert answer.json["message"] == "No healthy services available"
        refused = router.chat(None)
        assert refused.status == 503
        assert refused.error["code"] == "server_is_overloaded"
        assert int(refused.header("retry-after")) > 0


def test_services_are_listed_in_full(house: House) -> None:
    answer = house.router.ask("GET", "/services")
    assert answer.status == 200
    told = answer.json
    assert {"services", "total", "registry_url"} <= told.keys()
    assert (told["total"], told["registry_url"], len(told["services"])) == (3, None, 3)
    for item in told["services"]:
        assert {key: type(item[key]) for key in SERVICE} == SERVICE
    shown = {item["name"]: item for item in told["services"]}
    port = house.sims["a"].port
    assert (shown["a"]["host"], shown["a"]["port"], shown["a"]["url"]) == (
        "127.0.0.1",
        port,
        f"http://127.0.0.1:{port}",
    )
    assert shown["a"]["models"] == ["org/big", "m"]
    assert shown["b"]["models"] == ["zoo", "m"]
    assert {name: item["weight"] for name, item in shown.items()} == {"a": 3, "b": 1, "gone": 1}
    assert {name: item["healthy"] for name, item in shown.items()} == {"a": True, "b": True, "gone": False}
    assert shown["b"]["metadata"] == {"type": "openai-api", "models": ["zoo", "m"]}
    assert shown["a"]["babysitter_url"] == ""


def test_stats_tell_the_same_services_and_how_many_are_healthy(router: Router) -> None:
    answer = router.ask("GET", "/stats")
    assert answer.status == 200
    told = answer.json
    assert {"total_services", "healthy_services", "registry_url", "services"} <= told.keys()
    assert (told["total_services"], told["healthy_services"], told["registry_url"]) == (3, 2, None)
    assert [item["name"] for item in told["services"]] == ["a", "b", "gone"]
    assert {key: type(told["services"][0][key]) for key in SERVICE} == SERVICE


def test_requests_are_counted_once_each_and_errors_apart(house: House) -> None:
    """Defect: Requests are counted twice."""
    for _ in range(3):
        for _ in range(3):
            assert house.router.chat("zoo").status == 200
        until(lambda: house.router.service("b")["request_count"] == house.sims["b"].stats()["requests"], "equal counts")
    told = house.router.service("b")
    assert told["error_count"] == 0
    assert 0 < told["response_time"] < 10


@pytest.mark.parametrize("path", ["/models", "/v1/models"])
def test_models_of_healthy_services_are_put_together_sorted_each_id_once_the_first_wins(
    router: Router, path: str
) -> None:
    """Defect: `/v1/models` is not aggregated."""
    answer = router.ask("GET", path)
    assert answer.status == 200
    assert answer.json == {
        "object": "list",
        "data": [{"id": "m"}, {"id": "org/big", "object": "model", "owned_by": "a"}, {"id": "zoo"}],
    }


def test_one_model_is_retrieved_by_an_id_that_may_contain_slashes(router: Router) -> None:
    assert router.ask("GET", "/v1/models/org/big").json == {"id": "org/big", "object": "model", "owned_by": "a"}
    assert router.ask("GET", "/v1/models/org%2Fbig").json["id"] == "org/big"
    assert router.ask("GET", "/v1/models/zoo").json == {"id": "zoo"}


def test_a_model_that_is_not_there_is_404_and_the_error_names_it_and_those_that_are(router: Router) -> None:
    answer = router.ask("GET", "/v1/models/org/none")
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert "'org/none'" in answer.error["message"]
    assert "m, org/big, zoo" in answer.error["message"]
    assert answer.header("x-should-retry") == "false"


@pytest.mark.parametrize("path", ["/health", "/status", "/services", "/stats", "/models", "/v1/models", "/livez"])
def test_the_routers_own_paths_are_read_only(router: Router, path: str) -> None:
    answer = router.ask("POST", path, {"model": "m"})
    assert answer.status == 405
    assert answer.error["code"] == "method_not_allowed"
    assert "GET" in answer.header("allow")


def test_a_head_request_to_an_own_path_has_the_head_of_get_and_no_body(router: Router) -> None:
    answer = router.ask("HEAD", "/health")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("content-length")) > 0


def test_liveness_and_readiness_are_answered_by_the_worker_itself(router: Router) -> None:
    for path in ("/livez", "/readyz"):
        answer = router.ask("GET", path)
        assert answer.status == 200
        assert answer.service == "-"


# what every answer carries (`Router.ask` checks on each one that all lines are there)


def test_an_answer_says_who_gave_it_after_how_many_attempts_and_why(router: Router) -> None:
    answer = router.chat("zoo")
    assert answer.service == "b"
    assert answer.json["system_fingerprint"] == "b"
    assert answer.header("x-enginehouse-attempts") == "1"
    assert answer.header("x-enginehouse-reason") == "only"
    assert answer.header("x-enginehouse-queue-ms") == "0"
    assert float(answer.header("x-enginehouse-overhead-ms")) >= 0
    assert router.chat("m").header("x-enginehouse-reason") == "least_load"


ANSWERS = [
    ("GET", "/health", None, 200),
    ("GET", "/livez", None, 200),
    ("POST", "/v1/chat/completions", {"model": "zoo", "messages": []}, 200),
    ("POST", "/v1/chat/completions", {"model": "nobody-has-it"}, 503),
    ("POST", "/v1/chat/completions", ["a", "list"], 400),
    ("POST", "/sleep", {}, 403),
    ("GET", "//health", None, 400),
    ("GET", "/nowhere", None, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS)
def test_a_clients_own_request_id_is_on_every_answer_to_it(
    router: Router, method: str, path: str, body: Any, status: int
) -> None:
    answer = router.ask(method, path, body, {"x-request-id": "mine-7"})
    assert (answer.status, answer.header("x-request-id")) == (status, "mine-7")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("x" * 128, True), ("~!@#$%^&*()", True), ("x" * 129, False), ("a b", False), ("tab\there", False), ("ä", False)],
)
def test_a_request_id_is_kept_if_it_is_short_and_printable_else_replaced(house: House, given: str, kept: bool) -> None:
    answer = house.router.chat("zoo", {"x-request-id": given})
    used = answer.header("x-request-id")
    assert (used == given) is kept
    assert re.fullmatch(r"[\x21-\x7e]{1,128}", used)
    received = dict(house.sims["b"].stats()["last"]["headers"])
    assert received["x-request-id"] == used


def test_every_answer_without_a_clients_id_has_one_of_its_own(router: Router) -> None:
    ids = {router.ask(method, path, body).header("x-request-id") for method, path, body, _ in ANSWERS for _ in "ab"}
    assert len(ids) == 2 * len(ANSWERS)


def refuses(router: Router) -> bool:
    """Whether the router says that it stops."""
    answer = router.ask("GET", "/livez")
    if answer.status == 200:
        return False
    assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
    assert (answer.header("retry-after"), answer.header("connection")) == ("1", "close")
    return True


def test_while_it_stops_what_runs_is_finished_and_what_comes_is_told_so(tmp_path: Path) -> None:
    with engines(a={}) as sims, running(tmp_path, [static(sims["a"])], drain_timeout=20) as router:
        router.until_healthy("a")
        sims["a"].set_faults("silent:seconds=2")
        with ThreadPoolExecutor() as pool:
            running_one = pool.submit(router.chat)
            until(lambda: sims["a"].stats()["active"] == 1, "a request runs")
            router.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(router), "the router stops")
            assert running_one.result(30).status == 200
        assert router.process.wait(30) == 0


# discovery


def shapes(item: dict[str, Any]) -> list[object]:
    """One service in each of the three shapes of a static file."""
    return [[item], {"services": [item]}, {"static_services": {"services": [item]}}]


def test_a_static_file_has_one_of_three_shapes_and_an_edit_takes_effect_without_a_restart(
    tmp_path: Path, ports: Ports
) -> None:
    file = tmp_path / "static.json"
    with engines(a={}, b={}) as sims, running(tmp_path, []) as router:
        until(router.ready, "workers with a fleet")
        assert router.chat().status == 503
        for number in range(3):
            for engine in sims.values():
                name = f"{engine.name}-{number}"
                write(file, shapes(static(engine) | {"name": name})[number])
                until(lambda name=name: router.chat().service == name, f"an answer of {name}")
        file.write_text("[{")  # half an edit
        until(lambda: "is not JSON" in str(router.ask("GET", "/services").json["rejected"]), "the trouble is told")
        assert router.chat().status == 200


def test_a_record_that_cannot_be_used_is_told_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    bad: list[object] = [
        {"name": "a/b", "host": "127.0.0.1", "port": 1},
        {"name": "ä", "host": "127.0.0.1", "port": 1},
        {"name": "meta", "host": "169.254.169.254", "port": 80},
        {"name": "port", "host": "127.0.0.1", "port": "80"},
        "no object",
    ]
    with engines(a={}) as sims, running(tmp_path, [*bad, static(sims["a"])]) as router:
        router.until_healthy("a")
        rejected = router.ask("GET", "/services").json["rejected"]
        assert len(rejected) == len(bad)
        assert all(item["reason"] for item in rejected)
        assert router.chat().service == "a"


@pytest.mark.parametrize("trailing", ["", "/services", "/services/"])
def test_a_registry_url_is_given_with_or_without_a_trailing_services_and_pushes_what_is_new(
    tmp_path: Path, trailing: str
) -> None:
    """Defect: New services are invisible until the next poll."""
    with (
        engines(a={}) as sims,
        RegistryProcess() as registry,
        running(tmp_path, registry_url=registry.url + trailing, registry_sync_interval=3600) as router,
    ):
        until(router.ready, "workers with a fleet")
        record = service("a-server", sims["a"].port, metadata={"type": "openai-api", "models": ["m"]})
        assert send(registry.url, "POST", "/services", record).status == 201
        until(lambda: router.chat().service == "a-server", "an answer")
        assert router.ask("GET", "/health").json["registry_url"].startswith(registry.url)


def test_a_babysitter_that_registers_itself_never_gets_a_prompt(tmp_path: Path) -> None:
    """Registry services are candidates only where `metadata.type` is "openai-api"."""
    with engines(engine={}, sitter={}) as sims, RegistryProcess() as registry:
        for name, kind in (("sitter", "vllm"), ("engine", "openai-api")):
            record = service(name, sims[name].port, metadata={"type": kind, "models": ["m"]})
            assert send(registry.url, "POST", "/services", record).status == 201
        with running(tmp_path, registry_url=registry.url) as router:
            router.until_healthy("engine")
            for _ in range(10):
                assert router.chat().service == "engine"
                assert router.chat(None).service == "engine"
                assert router.ask("GET", "/unknown/path").service == "engine"
        assert sims["sitter"].stats()["requests"] == 0
