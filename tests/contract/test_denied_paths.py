"""Administrative paths of engines, plain and in disguise: refused, and the engine hears nothing of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.raw import exchange
from tests.contract.router import Router, engines, running, static
from tests.e2e.engines import SimProcess

#: Every path by which an engine is administered (vLLM, SGLang, llama.cpp).
ADMINISTRATIVE = """
/v1/load_lora_adapter /v1/unload_lora_adapter /load_lora_adapter /unload_lora_adapter /lora-adapters /sleep /wake_up
/is_sleeping /reset_prefix_cache /reset_mm_cache /flush_cache /release_memory_occupation /resume_memory_occupation
/update_weights /update_weights_from_disk /update_weights_from_tensor /pause /resume /abort_request /abort_requests
/collective_rpc /start_profile /stop_profile /scale_elastic_ep /server_info /get_server_info /props /slots /slots/0
/models/load /models/unload /metrics?model=m /shutdown
"""

#: What a server may read as `/sleep` or `/v1/load_lora_adapter` that decodes, folds, cuts or resolves more than others.
DISGUISES = [
    "//sleep",
    "///sleep",
    "/sleep/",
    "/sleep//",
    "/%73leep",
    "/sl%65ep",
    "/%2573leep",
    "/%252573leep",
    "/v1/../sleep",
    "/v1/%2e%2e/sleep",
    "/v1/..%2fsleep",
    "/v1/..;/sleep",
    "/..;/sleep",
    "/./sleep",
    "/sleep/.",
    "/sleep/x/..",
    "/v1%2Fload_lora_adapter",
    "/v1%2fload_lora_adapter",
    "/v1//load_lora_adapter",
    "/v1/load%5Flora_adapter",
    "/v1/LOAD_LORA_ADAPTER",
    "/V1/load_lora_adapter",
    "/SLEEP",
    "/Sleep",
    "/%C5%BFleep",
    "/sleep;x",
    "/sleep;x=1/",
    "/sleep%3Bx",
    "/sleep?x",
    "/sleep%3fx",
    "/sleep#x",
    "/sleep%23x",
    "/sleep%00",
    "/sleep%00.txt",
    "/sleep%20",
    "/sleep%09",
    "/sleep%0a",
    "/sleep%0d%0aX-A:1",
    "/sleep.",
    "/sleep%E2%80%8B",
    "/%C0%AFsleep",
    "/\\sleep",
    "/v1\\..\\sleep",
    "/%5Csleep",
    "/sleep/deeper",
    "/v1/sleep",
    "http://house/sleep",
    "HTTP://HOUSE//sleep",
    "http://house:1/v1/../sleep",
]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with engines(a={}) as started:
        yield started["a"]


@pytest.fixture(scope="module")
def router(sim: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with running(tmp_path_factory.mktemp("router"), [static(sim)]) as started:
        started.until_healthy("a")
        yield started


def reached(sim: SimProcess) -> int:
    """Requests and probes that the engine has seen."""
    told = sim.stats()
    return int(told["requests"]) + int(told["probes"])


def request(method: str, path: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: house\r\nContent-Length: 2\r\n\r\n{{}}".encode()


@pytest.mark.parametrize("path", ADMINISTRATIVE.split())
def test_an_administrative_path_is_a_403_that_says_how_it_is_opened(router: Router, sim: SimProcess, path: str) -> None:
    """Defect: Every path is open, the engines' admin paths included."""
    before = reached(sim)
    for method in (
        ("POST", "PUT", "DELETE") if path == "/props" else ("POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS")
    ):
        reply = exchange(router.port, request(method, path))
        assert reply.status == 403
        if method != "HEAD":
            assert reply.error["code"] == "path_denied"
            assert "open_paths" in reply.error["message"]
    assert reached(sim) == before


@pytest.mark.parametrize("path", DISGUISES)
def test_an_administrative_path_in_disguise_is_refused_too(router: Router, sim: SimProcess, path: str) -> None:
    """Defect: Every path is open, the engines' admin paths included."""
    before = reached(sim)
    for method in ("POST", "GET"):
        reply = exchange(router.port, request(method, path))
        assert reply.status in (400, 403)
        assert reply.error["code"] in ("path_denied", "path_not_normal", None)
        assert reply.error["type"] == "invalid_request_error"
    assert reached(sim) == before


@pytest.mark.parametrize("path", ["/asleep", "/sleepy", "/v1/sleepy", "/v1/a.b/c~d/%C3%A4", "/x;y=1", "/a%20b"])
def test_other_paths_are_open(router: Router, sim: SimProcess, path: str) -> None:
    """Everything that is neither the router's own nor administrative is proxied, as inherited."""
    assert exchange(router.port, request("POST", path)).status == 404
    assert sim.stats()["last"]["target"] == path


def test_props_may_be_read_but_not_written(router: Router, sim: SimProcess) -> None:
    assert exchange(router.port, request("GET", "/props")).status == 200
    assert exchange(router.port, request("POST", "/props")).status == 403
    assert sim.stats()["by_path"].get("POST /props") is None
