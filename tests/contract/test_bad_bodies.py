"""Bodies and names that make no sense, to router and registry: a 4xx that says what is wrong; no engine sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.raw import Reply, exchange
from tests.contract.router import Router, engines, running, send, static, steady
from tests.e2e.engines import SimProcess
from tests.registry.running import RegistryProcess, service

DEEP = 100_000

#: Not one JSON object in UTF-8.
NO_OBJECT = {
    "nothing": b"",
    "blanks": b"  \n",
    "half an object": b'{"model":"m"',
    "half a string": b'{"model":"m',
    "a list": b'[{"model":"m"}]',
    "a string": b'"m"',
    "a number": b"5",
    "null": b"null",
    "true": b"true",
    "single quotes": b"{'model':'m'}",
    "no quotes": b"{model:1}",
    "a comma too many": b'{"model":"m",}',
    "something behind it": b'{"model":"m"}x',
    "two objects": b'{"model":"m"}{"model":"m"}',
    "a comment": b'{"model":"m"/* */}',
    "NaN": b'{"model":"m","x":NaN}',
    "Infinity": b'{"model":"m","x":-Infinity}',
    "a leading zero": b'{"model":"m","x":01}',
    "a raw line break in a string": b'{"model":"m","x":"a\nb"}',
    "a bad escape": b'{"model":"m","x":"\\q"}',
    "a byte order mark": b'\xef\xbb\xbf{"model":"m"}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "Latin-1": b'{"model":"m","x":"\xe4"}',
    "bytes that are never UTF-8": b'{"model":"m","x":"\xff\xfe"}',
    "a surrogate as UTF-8": b'{"model":"m","x":"\xed\xa0\x80"}',
    "an overlong slash": b'{"model":"m","x":"\xc0\xaf"}',
    "NUL": b'{"model":"m"}\0',
    "binary": bytes(range(256)),
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep lists in a field": b'{"model":"m","x":' + b"[" * DEEP,
    "deep lists in a field, closed": b'{"model":"m","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects in a field, closed": b'{"model":"m","x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
}
#: JSON objects whose model is none.
BAD_MODELS = {
    "a number": b'{"model":5}',
    "true": b'{"model":true}',
    "a list": b'{"model":["m"]}',
    "an object": b'{"model":{"id":"m"}}',
    "empty": b'{"model":""}',
    "too long": b'{"model":"' + b"m" * 513 + b'"}',
    "given twice": b'{"model":"m","model":"m"}',
    "given twice, once in escapes": b'{"model":"m","mod\\u0065l":"other"}',
    "given twice, far apart": b'{"model":"m","x":"' + b"x" * 20_000 + b'","model":"other"}',
}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with engines(a={}) as started:
        yield started["a"]


@pytest.fixture(scope="module")
def router(sim: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router; another client chats meanwhile, and no worker dies."""
    with running(tmp_path_factory.mktemp("router"), [static(sim)]) as started:
        started.until_healthy("a")
        pids = [worker.pid for worker in started.workers()]
        with steady(lambda: started.chat().status):
            yield started
        assert [worker.pid for worker in started.workers()] == pids


def post(port: int, path: str, body: bytes, *lines: str) -> Reply:
    headers = "".join(line + "\r\n" for line in lines or ("Content-Type: application/json",))
    head = f"POST {path} HTTP/1.1\r\nHost: house\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return exchange(port, head.encode() + body)


def others(sim: SimProcess) -> dict[str, int]:
    """What the engine has seen besides the other client's chats."""
    return {key: count for key, count in sim.stats()["by_path"].items() if key != "POST /v1/chat/completions"}


@pytest.mark.parametrize("name", NO_OBJECT)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/responses", "/rerank"])
def test_a_body_that_is_no_json_object_is_a_400_on_the_paths_that_want_one(
    router: Router, sim: SimProcess, path: str, name: str
) -> None:
    """Defect: A list as body gives 500."""
    before = others(sim)
    reply = post(router.port, path, NO_OBJECT[name])
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["message"].startswith("We could not parse the JSON body of your request")
    assert not reply.closed, "the request was whole: the connection serves on"
    assert others(sim) == before


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_is_none_is_a_400_that_names_the_field(router: Router, sim: SimProcess, name: str) -> None:
    before = others(sim)
    reply = post(router.port, "/v1/completions", BAD_MODELS[name])
    assert (reply.status, reply.error["param"]) == (400, "model")
    assert "`model`" in reply.error["message"]
    assert others(sim) == before


FORM = "Content-Type: multipart/form-data; boundary=B"
FORMS = {
    "no JSON either": (b"model=m", "Content-Type: application/x-www-form-urlencoded"),
    "no boundary": (b"--B\r\n\r\n--B--\r\n", "Content-Type: multipart/form-data"),
    "empty": (b"", FORM),
    "not the boundary": (b"--C\r\n\r\n--C--\r\n", FORM),
    "no end": (b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm', FORM),
    "model twice": (b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n' * 2 + b"--B--\r\n", FORM),
    "model not UTF-8": (b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--B--\r\n', FORM),
    "model empty": (b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n\r\n--B--\r\n', FORM),
    "many parts": (b"--B\r\nX: y\r\n\r\nz\r\n" * 1001 + b"--B--\r\n", FORM),
    "header without colon": (b"--B\r\nnonsense\r\n\r\nz\r\n--B--\r\n", FORM),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_cannot_be_read_is_a_400_and_no_line_in_the_log(router: Router, sim: SimProcess, name: str) -> None:
    body, line = FORMS[name]
    before = others(sim)
    reply = post(router.port, "/v1/audio/transcriptions", body, line)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert others(sim) == before
    assert [line for line in router.log.splitlines() if not line.startswith("router: ")] == []


def test_an_encoded_body_cannot_be_routed_by_its_model_and_is_a_415(router: Router) -> None:
    reply = post(router.port, "/v1/completions", b"\x1f\x8b\x08", "Content-Encoding: gzip")
    assert (reply.status, reply.error["code"]) == (415, "unsupported_content_encoding")


def test_a_body_larger_than_the_limit_is_a_413_before_it_is_sent(router: Router) -> None:
    """Defect: No body limit."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: house\r\nContent-Length: %d\r\n\r\n" % (64 * 2**20 + 1)
    reply = exchange(router.port, head)
    assert (reply.status, reply.error["code"], reply.closed) == (413, "request_too_large", True)


def test_an_expectation_nobody_knows_is_a_417(router: Router) -> None:
    reply = post(router.port, "/v1/completions", b'{"model":"m"}', "Expect: 200-ok")
    assert (reply.status, reply.error["code"]) == (417, "expectation_failed")


@pytest.mark.parametrize("query", ["model=", "model=m&model=m", "model=" + "m" * 513])
def test_a_model_in_a_query_that_is_none_is_a_400(router: Router, query: str) -> None:
    answer = router.ask("GET", f"/props?{query}")
    assert (answer.status, answer.error["param"]) == (400, "model")


# the registry


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryProcess]:
    """A registry; another client reads its record meanwhile, and nothing it logs is a bug."""
    with RegistryProcess() as process:
        assert send(process.url, "POST", "/services", service("known")).status == 201
        with steady(lambda: send(process.url, "GET", "/services/known").status):
            yield process
        assert send(process.url, "GET", "/services").json["total"] == 1
        process.kill()
        assert "a bug" not in process.errors


@pytest.mark.parametrize("name", NO_OBJECT)
@pytest.mark.parametrize("path", ["/services", "/services/known/heartbeat"])
def test_the_registry_refuses_what_is_no_json_object(registry: RegistryProcess, path: str, name: str) -> None:
    if path.endswith("heartbeat") and not NO_OBJECT[name]:
        return  # a heartbeat may have no body
    reply = post(port_of(registry), path, NO_OBJECT[name])
    too_large = len(NO_OBJECT[name]) > 320 * 1024
    assert (reply.status, reply.error["type"]) == (413 if too_large else 400, "invalid_request_error")


def port_of(registry: RegistryProcess) -> int:
    return int(registry.url.rpartition(":")[2])


NAMES: list[Any] = [
    "a/b",
    "../a",
    "ä",
    "a b",
    "a\0b",
    "a\r\nb",
    "",
    "x" * 129,
    5,
    None,
    True,
    ["a"],
    {"a": 1},
    "a%2Fb",
    "a\u2028b",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_service_name_is_letters_digits_dot_dash_and_underscore(registry: RegistryProcess, name: object) -> None:
    answer = send(registry.url, "POST", "/services", service() | {"name": name})
    assert (answer.status, answer.error["param"]) == (400, "name")
    assert "name" in answer.error["message"]


WRONG: list[tuple[str, Any]] = [
    ("host", 5),
    ("host", "a b"),
    ("host", "http://a"),
    ("host", "a/b"),
    ("host", "[::1]"),
    ("host", "ä.example"),
    ("port", "8000"),
    ("port", 0),
    ("port", 65536),
    ("port", 1.5),
    ("port", True),
    ("port", 10**30),
    ("url", "ftp://127.0.0.1"),
    ("url", "http://u:p@127.0.0.1:8000"),
    ("url", "http://127.0.0.1:8000/../x"),
    ("url", []),
    ("hostname", "a\nb"),
    ("status", {}),
    ("weight", -1),
    ("weight", 1.0e9),
    ("metadata", "x"),
    ("metadata", {"models": [1]}),
    ("metadata", {"models_list": [{}]}),
    ("metadata", {"base_url": "http://elsewhere"}),
    ("metadata", {"x": "y" * 300_000}),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=repr)
def test_a_field_of_a_wrong_type_or_value_is_a_400_that_names_it(
    registry: RegistryProcess, field: str, value: object
) -> None:
    answer = send(registry.url, "POST", "/services", service() | {field: value})
    assert answer.status == 400
    assert str(answer.error["param"]).startswith(field)
    assert field in answer.error["message"]


@pytest.mark.parametrize("name", ["a%2Fb", "%2e%2e", "%C3%A4", "a%00b", "a%0d%0ab", "x" * 5000, "%ff", "known%20"])
def test_a_name_in_a_path_that_can_be_none_is_a_404_for_every_method(registry: RegistryProcess, name: str) -> None:
    for method, tail in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/health"), ("POST", "/heartbeat")):
        answer = send(registry.url, method, f"/services/{name}{tail}", {} if method in ("PUT", "POST") else None)
        assert answer.status == 404
        assert answer.error["type"] == "invalid_request_error"
