"""Which service gets a request, seen from outside: models, turns, aliases, paths, remembered ids, refusals."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from tests.contract.router import Router, Sims, engines, running, services, static, until, worker_of

# by model


def test_a_request_goes_to_a_service_that_lists_its_model(router: Router) -> None:
    for _ in range(4):
        answer = router.chat("other")
        assert (answer.service, answer.json["system_fingerprint"]) == ("other", "other")


def test_services_of_a_model_take_turns(router: Router) -> None:
    assert Counter(services([router.chat("m") for _ in range(9)])) == {"a": 3, "b": 3, "c": 3}


def test_every_model_has_turns_of_its_own(router: Router) -> None:
    """Defect: One round-robin counter for all models, and bursts (AAAB)."""
    turns = [(router.chat("x").service, router.chat("only-a").service) for _ in range(8)]
    assert Counter(first for first, _ in turns) == {"a": 4, "b": 4}


def test_weighted_turns_are_spread_not_given_in_bursts(tmp_path: Path, sims: Sims) -> None:
    """Defect: One round-robin counter for all models, and bursts (AAAB)."""
    items = [static(sims["a"], weight=3), static(sims["b"], weight=2)]
    with running(tmp_path, items) as router:
        router.until_healthy("a", "b")
        order = services([router.chat() for _ in range(20)])
        assert Counter(order) == {"a": 12, "b": 8}
        runs = {name: max(len(list(run)) for key, run in groupby(order) if key == name) for name in "ab"}
        assert runs == {"a": 2, "b": 1}


@pytest.mark.parametrize("body", [b'{"messages":[]}', b'{"model":null,"messages":[]}'])
def test_a_body_without_a_model_goes_round_all_services(router: Router, body: bytes) -> None:
    names = [router.ask("POST", "/v1/chat/completions", raw=body).service for _ in range(8)]
    assert Counter(names) == {"a": 2, "b": 2, "c": 2, "other": 2}


def test_with_require_model_a_body_without_one_is_a_400(tmp_path: Path, sims: Sims) -> None:
    with running(tmp_path, [static(sims["a"])], require_model=True) as router:
        router.until_healthy("a")
        refused = router.chat(None)
        assert refused.status == 400
        assert refused.error == {
            "message": "you must provide a model parameter",
            "type": "invalid_request_error",
            "param": "model",
            "code": None,
        }
        assert router.chat("m").status == 200
        assert router.ask("POST", "/sim/echo", raw=b"elsewhere it is not asked for").status == 200


def test_a_get_request_goes_round_whatever_its_body_says(router: Router) -> None:
    names = {router.ask("GET", "/version", raw=b'{"model":"other"}').service for _ in range(8)}
    assert names == {"a", "b", "c", "other"}


def test_a_body_that_cannot_be_parsed_is_refused_where_a_model_is_wanted_and_passed_on_elsewhere(
    router: Router,
) -> None:
    """Defect: A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service."""
    refused = router.ask("POST", "/v1/completions", raw=b'{"model": "other", "prompt": [1, 2')
    assert refused.status == 400
    assert refused.error["message"].startswith("We could not parse the JSON body of your request")
    passed = router.ask("POST", "/sim/echo", raw=b"\xff\x00 no JSON at all")
    assert (passed.status, passed.body) == (200, b"\xff\x00 no JSON at all")


def test_a_prompt_of_token_ids_goes_to_its_models_service(router: Router) -> None:
    """Defect: A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service."""
    for prompt in ([1, 2, 3], [[1, 2], [3]]):
        for _ in range(4):
            assert router.ask("POST", "/v1/completions", {"model": "other", "prompt": prompt}).service == "other"


def test_a_multipart_form_goes_to_its_models_service_byte_for_byte(router: Router, sims: Sims) -> None:
    """Defect: A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service."""
    sound = bytes(range(256)) * 40
    form = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="model.wav"\r\n\r\n' + sound + b"\r\n"
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n--B--\r\n'
    )
    for _ in range(4):
        answer = router.ask(
            "POST", "/v1/audio/transcriptions", raw=form, headers={"content-type": "multipart/form-data; boundary=B"}
        )
        assert (answer.status, answer.service) == (200, "other")
        assert answer.json["file"]["sha256"] == hashlib.sha256(sound).hexdigest()
    assert sims["other"].stats()["last"]["body_sha256"] == hashlib.sha256(form).hexdigest()


def test_a_body_reaches_the_engine_byte_for_byte(router: Router, sims: Sims) -> None:
    body = b'{ "x" : 1.0,\n"model":"other" ,"unknown":{"a":[1e3,"\\u00e4","\xc3\xa4"]}, "messages":[], "x":2}'
    answer = router.ask("POST", "/v1/chat/completions", raw=body)
    assert answer.status == 200, answer
    assert sims["other"].stats()["last"]["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_path_query_and_method_are_passed_on_as_they_are(router: Router, sims: Sims) -> None:
    target = "/unknown/%C3%A4/x?model=other&b=%20+&&a=1&a=2"
    names = {router.ask("PATCH", target, {"model": "other"}).service for _ in range(3)}
    assert names == {"other"}
    last = sims["other"].stats()["last"]
    assert (last["method"], last["target"]) == ("PATCH", target)


# refusals


def test_a_model_nobody_ever_had_is_a_503_that_names_it_and_those_there_are_and_is_not_to_be_tried_again(
    router: Router,
) -> None:
    """Defect: Errors are not in OpenAI's shape."""
    answer = router.chat("nobody/has-it")
    assert answer.status == 503
    assert answer.error["message"] == (
        "No healthy services available for model 'nobody/has-it'. The models here are: m, only-a, other, x."
    )
    assert (answer.error["type"], answer.error["code"]) == ("invalid_request_error", "model_not_found")
    assert answer.header("x-should-retry") == "false"
    assert answer.all("retry-after") == []
    assert (answer.service, answer.header("x-enginehouse-attempts")) == ("-", "0")


def test_an_unknown_model_is_a_404_where_configured(tmp_path: Path, sims: Sims) -> None:
    with running(tmp_path, [static(sims["a"])], unknown_model_status=404) as router:
        router.until_healthy("a")
        answer = router.chat("nobody-has-it")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert answer.header("x-should-retry") == "false"
        assert "'nobody-has-it'" in answer.error["message"]


def test_a_model_that_is_known_but_that_nobody_can_serve_now_is_a_503_to_be_tried_again(tmp_path: Path) -> None:
    with (
        engines(a={"models": ["m"]}, b={"models": ["lost"]}) as sims,
        running(tmp_path, [static(sims["a"]), static(sims["b"])]) as router,
    ):
        router.until_healthy("a", "b")
        assert router.chat("lost").status == 200
        sims["b"].kill9()
        until(lambda: router.chat("lost").status == 503, "b's end is known")
        answer = router.chat("lost")
        assert answer.error["message"].startswith("No healthy services available for model 'lost'")
        assert (answer.error["type"], answer.error["code"]) == ("service_unavailable_error", "server_is_overloaded")
        assert int(answer.header("retry-after")) > 0
        assert answer.all("x-should-retry") == []
        listed = router.ask("GET", "/v1/models").json["data"]
        assert [model["id"] for model in listed] == ["m"]
        retrieved = router.ask("GET", "/v1/models/lost")
        assert (retrieved.status, retrieved.error["code"]) == (503, "server_is_overloaded")


def test_while_an_engine_that_has_not_told_its_models_yet_still_loads_a_refusal_is_to_be_tried_again(
    tmp_path: Path,
) -> None:
    """Trap: "Never seen this model" is not known at boot."""
    with engines(a={"ready_after": 3600}) as sims, running(tmp_path, [static(sims["a"])]) as router:
        until(router.ready, "workers with a fleet")
        for answer in (router.chat("m"), router.ask("GET", "/v1/models/m")):
            assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
            assert "'m'" in answer.error["message"]
            assert int(answer.header("retry-after")) > 0
            assert answer.all("x-should-retry") == []


def test_errors_on_the_anthropic_path_have_anthropics_shape(router: Router) -> None:
    answer = router.ask("POST", "/v1/messages", {"model": "nobody-has-it", "max_tokens": 1, "messages": []})
    assert answer.status == 503
    assert answer.json.keys() == {"type", "error"}
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "not_found_error"
    assert "'nobody-has-it'" in answer.json["error"]["message"]


# aliases


ALIASES = '[router.models."m"]\naliases = ["gpt-4o", "org/alias"]\n'


def test_an_alias_changes_only_the_bytes_of_the_models_value(tmp_path: Path, sims: Sims) -> None:
    with running(tmp_path, [static(sims["a"])], ALIASES) as router:
        router.until_healthy("a")
        for alias in ("gpt-4o", "org/alias"):
            sent = b'{ "stop":["gpt-4o"], "model" : "%b" ,\n"user":"\xc3\xa4","messages":[], "n":1.0 }' % alias.encode()
            answer = router.ask("POST", "/v1/chat/completions", raw=sent)
            assert (answer.status, answer.json["model"]) == (200, "m")
            arrived = sent.replace(b'"model" : "%b"' % alias.encode(), b'"model" : "m"')
            assert sims["a"].stats()["last"]["body_sha256"] == hashlib.sha256(arrived).hexdigest()
        assert router.ask("GET", "/v1/models/gpt-4o").json["id"] == "m"


# paths


def test_in_strict_mode_only_inference_paths_are_passed_on(tmp_path: Path, sims: Sims) -> None:
    with running(tmp_path, [static(sims["a"])], strict_paths=True) as router:
        router.until_healthy("a")
        for method, path in (("GET", "/sim/bytes?n=1"), ("POST", "/sim/echo"), ("GET", "/version"), ("PUT", "/x")):
            answer = router.ask(method, path)
            assert (answer.status, answer.error["code"]) == (404, "path_unknown")
        assert router.chat().status == 200
        assert router.ask("POST", "/v1/embeddings", {"model": "m", "input": "x"}).status == 200
        assert router.ask("GET", "/health").status == 200
        assert "PUT /x" not in sims["a"].stats()["by_path"]


def test_an_administrative_path_is_open_where_configured_and_no_other(tmp_path: Path) -> None:
    with (
        engines(a={}) as sims,
        running(tmp_path, [static(sims["a"])], open_paths=["/sleep", "/lora-adapters*"]) as router,
    ):
        router.until_healthy("a")
        assert router.ask("POST", "/sleep", {}).json["reached"] == "/sleep"
        assert router.ask("GET", "/lora-adapters").status == 200
        assert router.ask("POST", "/wake_up", {}).status == 403
        assert "POST /wake_up" not in sims["a"].stats()["by_path"]


# ids that one engine made


def test_what_an_engine_made_is_found_there_again_by_every_worker(tmp_path: Path, sims: Sims) -> None:
    """Trap: ids made by one engine must be found by every worker."""
    with running(tmp_path, [static(sims[name]) for name in "abc"], workers=2) as router:
        router.until_healthy("a", "b", "c")
        made: dict[str, str] = {}
        makers: set[str] = set()
        for _ in range(9):
            answer = router.ask("POST", "/v1/responses", {"model": "m", "input": "x"})
            made[json.loads(answer.body)["id"]] = answer.service
            makers.add(worker_of(answer))
        assert set(made.values()) == {"a", "b", "c"}
        finders: set[str] = set()
        for _ in range(40):
            for name, engine in made.items():
                found = router.ask("GET", f"/v1/responses/{name}")
                assert (found.status, found.service, found.json["id"]) == (200, engine, name)
                assert found.header("x-enginehouse-reason") == "remembered"
                finders.add(worker_of(found))
            if len(makers | finders) == 2 and len(finders) == 2:
                break
        assert len(finders) == 2, "both workers were asked"
        follow = [
            router.ask("POST", "/v1/responses", {"model": "m", "input": "y", "previous_response_id": name})
            for name in made
        ]
        assert [answer.status for answer in follow] == [200] * len(made)
