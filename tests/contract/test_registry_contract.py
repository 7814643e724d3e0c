"""The registry's HTTP contract, seen from outside: a real process, plain requests, exact shapes and statuses."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.registry.running import RegistryProcess, service

SERVICE = {
    "name": str,
    "host": str,
    "port": int,
    "hostname": str,
    "url": str,
    "status": str,
    "timestamp": str,
    "last_heartbeat": float,
    "health_status": str,
    "is_healthy": bool,
    "weight": int,
    "metadata": dict,
}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: Any


class Caller:
    """Knows nothing but HTTP and JSON."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)

    def __call__(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> Answer:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        self.connection.request(method, path, data, {"content-type": "application/json"} if data else {})
        response = self.connection.getresponse()
        text = response.read()
        assert response.headers["x-request-id"]
        return Answer(response.status, response.headers, json.loads(text) if text else None)


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryProcess]:
    with RegistryProcess() as process:
        yield process


@pytest.fixture
def call(registry: RegistryProcess) -> Iterator[Caller]:
    """A caller that finds an empty registry."""
    caller = Caller(registry.url)
    for listed in caller("GET", "/services").body["services"]:
        assert caller("DELETE", f"/services/{listed['name']}").status == 200
    yield caller
    caller.connection.close()


def types(value: dict[str, Any]) -> dict[str, type]:
    return {key: type(item) for key, item in value.items()}


def is_now(timestamp: str) -> bool:
    """RFC 3339 with an offset of zero, about now."""
    then = datetime.fromisoformat(timestamp)
    assert then.utcoffset() == timedelta(0)
    return abs(then.timestamp() - time.time()) < 60


def test_post_registers_a_service_with_201_and_shows_it_in_full(call: Caller) -> None:
    answer = call("POST", "/services", service(weight=3, metadata={"type": "openai-api", "models": ["m"]}))
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.body["message"] == "Service 'engine-1' registered successfully"
    shown = answer.body["service"]
    assert types(shown) == SERVICE
    assert shown["weight"] == 3
    assert shown["metadata"] == {"type": "openai-api", "models": ["m"]}
    assert {key: shown[key] for key in service()} == service()
    assert shown["health_status"] == "unknown"
    assert shown["is_healthy"] is True
    assert is_now(shown["timestamp"])
    assert abs(shown["last_heartbeat"] - time.time()) < 60
    assert isinstance(answer.body["lease"], str)
    assert answer.body.keys() == {"message", "service", "lease"}


def test_the_weight_of_a_service_is_kept(call: Caller) -> None:
    """Defect: `weight` is dropped."""
    call("POST", "/services", service(weight=7))
    assert call("GET", "/services/engine-1").body["weight"] == 7
    assert call("GET", "/services").body["services"][0]["weight"] == 7
    call("PUT", "/services/engine-1", {"weight": 9})
    assert call("GET", "/services/engine-1").body["weight"] == 9


def test_hostname_url_and_status_may_be_left_out_by_new_clients(call: Caller) -> None:
    answer = call("POST", "/services", {"name": "n", "host": "10.0.0.7", "port": 8000})
    shown = answer.body["service"]
    assert (shown["hostname"], shown["url"], shown["status"]) == ("10.0.0.7", "http://10.0.0.7:8000", "running")
    assert (shown["weight"], shown["metadata"]) == (1, {})


def test_post_of_a_known_name_replaces_it(call: Caller) -> None:
    call("POST", "/services", service(metadata={"a": 1}))
    assert call("POST", "/services", service(port=9000, metadata={"b": 2})).status == 201
    listed = call("GET", "/services").body
    assert listed["total"] == 1
    assert listed["services"][0]["port"] == 9000
    assert listed["services"][0]["metadata"] == {"b": 2}


def test_get_services_lists_all_and_filters_by_status_and_health(call: Caller) -> None:
    for name, status in (("a", "running"), ("b", "stopped"), ("c", "running")):
        call("POST", "/services", service(name, status=status))
    answer = call("GET", "/services")
    assert answer.status == 200
    assert answer.body.keys() == {"services", "total", "timestamp"}
    assert answer.body["total"] == 3
    assert is_now(answer.body["timestamp"])
    assert all(types(listed) == SERVICE for listed in answer.body["services"])

    def names(query: str) -> list[str]:
        body = call("GET", f"/services?{query}").body
        assert body["total"] == len(body["services"])
        return [listed["name"] for listed in body["services"]]

    assert names("status=running") == ["a", "c"]
    assert names("status=stopped") == ["b"]
    assert names("status=run") == []
    assert names("healthy=true") == ["a", "c"]
    assert names("healthy=false") == ["b"]
    assert names("healthy=true&status=stopped") == []


def test_get_of_one_service_shows_it_or_404(call: Caller) -> None:
    shown = call("POST", "/services", service()).body["service"]
    assert call("GET", "/services/engine-1").body == shown
    assert call("GET", "/services/other").status == 404


def test_put_replaces_the_given_fields_metadata_as_a_whole_and_refreshes_the_heartbeat(call: Caller) -> None:
    before = call("POST", "/services", service(weight=2, metadata={"a": 1, "b": 2})).body["service"]
    answer = call("PUT", "/services/engine-1", {"status": "draining", "metadata": {"b": 3}, "port": 9000})
    assert answer.status == 200
    assert answer.body.keys() == {"message", "service"}
    assert answer.body["message"] == "Service 'engine-1' updated successfully"
    after = answer.body["service"]
    assert (after["status"], after["metadata"], after["port"]) == ("draining", {"b": 3}, 9000)
    assert (after["weight"], after["hostname"]) == (2, "gpu-box")
    assert after["url"] == "http://127.0.0.1:9000", "what was derived follows"
    assert after["last_heartbeat"] > before["last_heartbeat"]
    assert call("PUT", "/services/other", {"status": "x"}).status == 404


def test_put_of_nothing_refreshes_the_heartbeat(call: Caller) -> None:
    before = call("POST", "/services", service()).body["service"]
    after = call("PUT", "/services/engine-1", {}).body["service"]
    assert after["last_heartbeat"] > before["last_heartbeat"]
    assert after["timestamp"] == before["timestamp"]


def test_delete_unregisters_once(call: Caller) -> None:
    call("POST", "/services", service())
    answer = call("DELETE", "/services/engine-1")
    assert (answer.status, answer.body) == (200, {"message": "Service 'engine-1' unregistered successfully"})
    assert call("GET", "/services/engine-1").status == 404
    assert call("DELETE", "/services/engine-1").status == 404


def test_a_heartbeat_is_received_with_or_without_a_body_and_may_bring_a_status(call: Caller) -> None:
    before = call("POST", "/services", service()).body["service"]
    answer = call("POST", "/services/engine-1/heartbeat")
    assert (answer.status, answer.body["message"]) == (200, "Heartbeat received")
    assert answer.body.keys() == {"message", "timestamp"}
    assert is_now(answer.body["timestamp"])
    assert call("POST", "/services/engine-1/heartbeat", {}).status == 200
    assert call("GET", "/services/engine-1").body["last_heartbeat"] > before["last_heartbeat"]
    assert call("POST", "/services/engine-1/heartbeat", {"status": "draining"}).status == 200
    assert call("GET", "/services/engine-1").body["status"] == "draining"
    assert call("POST", "/services/other/heartbeat").status == 404


def test_the_health_of_a_service_is_probed_live(call: Caller, registry: RegistryProcess) -> None:
    port = urlsplit(registry.url).port
    assert port is not None
    call("POST", "/services", service("self", port))
    call("POST", "/services", service("nobody", 1))
    answer = call("GET", "/services/self/health")
    assert answer.status == 200
    assert answer.body.keys() == {"service", "health_status", "is_healthy", "last_heartbeat", "timestamp"}
    assert (answer.body["service"], answer.body["health_status"], answer.body["is_healthy"]) == (
        "self",
        "healthy",
        True,
    )
    answer = call("GET", "/services/nobody/health")
    assert (answer.status, answer.body["health_status"], answer.body["is_healthy"]) == (200, "unhealthy", False)
    assert call("GET", "/services/nobody").body["health_status"] == "unhealthy"
    assert call("GET", "/services/other/health").status == 404


def test_health_counts_services(call: Caller) -> None:
    call("POST", "/services", service("a"))
    call("POST", "/services", service("b", status="stopped"))
    answer = call("GET", "/health")
    assert answer.status == 200
    assert answer.body | {"timestamp": ""} == {
        "status": "healthy",
        "registry": "running",
        "registered_services": 2,
        "healthy_services": 1,
        "timestamp": "",
    }
    assert is_now(answer.body["timestamp"])


def test_stats_count_by_status_and_host(call: Caller) -> None:
    call("POST", "/services", service("a"))
    call("POST", "/services", service("b", status="stopped"))
    call("POST", "/services", service("c", host="10.0.0.7"))
    body = call("GET", "/stats").body
    assert body | {"uptime": 0, "timestamp": ""} == {
        "total_services": 3,
        "healthy_services": 2,
        "unhealthy_services": 1,
        "status_distribution": {"running": 2, "stopped": 1},
        "host_distribution": {"127.0.0.1": 2, "10.0.0.7": 1},
        "uptime": 0,
        "timestamp": "",
    }
    assert body["uptime"] > 0


def test_liveness_readiness_and_the_openapi_document_are_served(call: Caller) -> None:
    assert call("GET", "/livez").status == 200
    assert call("GET", "/readyz").status == 200
    document = call("GET", "/openapi.json").body
    assert document["openapi"].startswith("3.1")
    paths = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {("post", "/services"), ("delete", "/services/{name}"), ("post", "/services/{name}/heartbeat")} <= paths
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


ERRORS: list[tuple[str, str, object, int, str | None]] = [
    ("POST", "/services", {"host": "h", "port": 1}, 400, "name"),
    ("POST", "/services", service("a/b"), 400, "name"),
    ("POST", "/services", service("ä"), 400, "name"),
    ("POST", "/services", service("x" * 129), 400, "name"),
    ("POST", "/services", {"name": "n", "port": 1}, 400, "host"),
    ("POST", "/services", service(host="0.0.0.0", url=None), 400, "host"),
    ("POST", "/services", service(host="169.254.169.254", url=None), 400, "host"),
    ("POST", "/services", service() | {"port": "8000"}, 400, "port"),
    ("POST", "/services", service(port=0), 400, "port"),
    ("POST", "/services", service(url="http://evil:8000"), 400, "url"),
    ("POST", "/services", service(status=5), 400, "status"),
    ("POST", "/services", service(weight=0), 400, "weight"),
    ("POST", "/services", service(metadata=[]), 400, "metadata"),
    ("POST", "/services", service(metadata={"models": "m"}), 400, "metadata.models"),
    ("POST", "/services", service(lease="a b"), 400, "lease"),
    ("POST", "/services", service(lease=7), 400, "lease"),
    ("POST", "/services", [service()], 400, None),
    ("POST", "/services", "x", 400, None),
    ("PUT", "/services/known", {"port": -1}, 400, "port"),
    ("PUT", "/services/known", {"host": "10.0.0.7", "url": "http://evil"}, 400, "url"),
    ("PUT", "/services/known", [], 400, None),
    ("POST", "/services/known/heartbeat", {"status": 7}, 400, "status"),
    ("POST", "/services/known/heartbeat", [], 400, None),
    ("GET", "/services?healthy=yes", None, 400, "healthy"),
    ("GET", "/services?watch=x", None, 400, "watch"),
    ("GET", "/services?watch=-1", None, 400, "watch"),
    ("DELETE", "/services/known?lease=%00", None, 400, "lease"),
    ("GET", "/services/a%2Fb", None, 404, None),
    ("GET", "/services/", None, 404, None),
    ("GET", "/nothing", None, 404, None),
    ("DELETE", "/services", None, 405, None),
    ("PATCH", "/services/known", None, 405, None),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "field"), ERRORS)
def test_bad_input_gets_an_error_in_openais_shape_that_names_the_field(
    call: Caller, method: str, path: str, body: object, status: int, field: str | None
) -> None:
    call("POST", "/services", service("known"))
    answer = call(method, path, body)
    assert answer.status == status
    assert answer.body.keys() == {"error"}
    error = answer.body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == field
    assert field is None or field in error["message"]
    assert call("GET", "/services").body["total"] == 1


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b'{"name": "\xff"}', b'{"name": NaN}', b"[" * 100_000, b'{"a":' * 50_000, b"null", b"\0"],
)
def test_a_body_that_is_no_json_object_is_a_400(call: Caller, raw: bytes) -> None:
    answer = call("POST", "/services", raw=raw)
    assert (answer.status, answer.body["error"]["type"]) == (400, "invalid_request_error")


def test_a_body_over_the_limit_is_a_413(call: Caller) -> None:
    answer = call("POST", "/services", raw=b'{"x": "' + b"x" * 400_000)
    assert (answer.status, answer.body["error"]["code"]) == (413, "request_too_large")


def test_a_client_that_speaks_only_the_inherited_contract_gets_along_without_leases(call: Caller) -> None:
    record = service(timestamp="2026-01-01T00:00:00Z", metadata={"type": "openai-api"})
    assert call("POST", "/services", record).status == 201
    assert call("POST", "/services", record).status == 201
    assert call("POST", "/services/engine-1/heartbeat", {"status": "running"}).status == 200
    assert call("PUT", "/services/engine-1", {"metadata": {"models": ["m"]}}).status == 200
    assert call("POST", "/services", record | {"port": 9000}).status == 201
    assert call("POST", "/services/engine-1/heartbeat").status == 200
    assert call("DELETE", "/services/engine-1").status == 200


def test_a_head_request_answers_as_get_without_a_body(call: Caller) -> None:
    call.connection.request("HEAD", "/health")
    response = call.connection.getresponse()
    assert (response.status, response.read()) == (200, b"")


def test_a_clients_own_request_id_is_kept_if_it_is_short_and_printable(call: Caller) -> None:
    for given, kept in (("abc-1", True), ("x" * 128, True), ("x" * 129, False), ("a b", False)):
        call.connection.request("GET", "/livez", headers={"x-request-id": given})
        response = call.connection.getresponse()
        response.read()
        assert (response.headers["x-request-id"] == given) is kept
