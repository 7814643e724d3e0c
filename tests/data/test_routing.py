"""What a request asks for decides where it goes, and what is changed on its way: as little as can be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from enginehouse.core.config.router import EngineAccess, ModelConfig
from enginehouse.core.fleet import Fleet
from tests.data.rig import Answer, Call, Client, Engine, post, rig, service_of, until


async def plain(call: Call) -> None:
    await call.answer(b'{"from":"%b"}' % call.engine.name.encode())


def error_of(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(answer.body)["error"]
    return error


def served_by(answer: Answer) -> str | None:
    return answer.header("x-enginehouse-service")


async def test_until_the_first_sync_a_refusal_is_retryable() -> None:
    """Trap: "never seen this model" is not known at boot."""
    async with rig(Engine("a", plain), queue_timeout=0.05) as house:
        house.worker.use_fleet(Fleet(version=2, synced=False))
        answer = await house.ask(post(b'{"model":"new"}'))
        assert answer.status == 503
        assert error_of(answer)["code"] == "server_is_overloaded"
        assert answer.header("retry-after") == "1"
        assert answer.header("x-should-retry") is None


async def test_a_model_the_house_has_never_seen_is_a_503_that_is_not_to_be_retried_and_names_the_models() -> None:
    async with rig(Engine("a", plain, models=("m", "org/x"))) as house:
        answer = await house.ask(post(b'{"model":"nobody"}'))
        assert answer.status == 503
        assert error_of(answer)["code"] == "model_not_found"
        assert error_of(answer)["message"].startswith("No healthy services available for model 'nobody'")
        assert "org/x" in error_of(answer)["message"]
        assert answer.header("x-should-retry") == "false"


async def test_unknown_model_status_turns_it_into_openais_404() -> None:
    async with rig(Engine("a", plain), unknown_model_status=404) as house:
        assert (await house.ask(post(b'{"model":"nobody"}'))).status == 404


async def test_a_model_that_is_known_but_not_served_now_is_a_retryable_503() -> None:
    async with rig(Engine("a", plain), queue_timeout=0.05) as house:
        answer = await house.ask(post(b'{"model":"gone"}'))
        assert (answer.status, error_of(answer)["code"]) == (503, "server_is_overloaded")
        assert answer.header("retry-after") is not None


@pytest.mark.parametrize("body", [b"[]", b"{", b"", b'"x"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_a_400_on_json_paths(body: bytes) -> None:
    """Defect: A list as body gives 500."""
    async with rig(Engine("a", plain)) as house:
        answer = await house.ask(post(body))
        assert (answer.status, error_of(answer)["code"]) == (400, None)
        assert "JSON" in error_of(answer)["message"]


async def test_such_a_body_is_passed_on_elsewhere() -> None:
    engine = Engine("a", plain)
    async with rig(engine) as house:
        assert (await house.ask(post(b"[1,2", path="/v1/custom"))).status == 200
    assert engine.calls[0].body == b"[1,2"


@pytest.mark.parametrize(
    "body", [b'{"model":"m","model":"n"}', b'{"model":"m","mod\\u0065l":"n"}', b'{"model":3}', b'{"model":""}']
)
async def test_a_model_that_is_ambiguous_or_no_name_is_a_400(body: bytes) -> None:
    """Trap: msgspec lets the last of duplicate keys win, escaped ones too; other parsers differ."""
    async with rig(Engine("a", plain)) as house:
        answer = await house.ask(post(body))
        assert (answer.status, error_of(answer)["param"]) == (400, "model")


async def test_fields_of_any_type_do_not_fail_the_body() -> None:
    """Trap: a field typed too tightly fails the whole body (`"stream": null`)."""
    async with rig(Engine("a", plain)) as house:
        body = b'{"model":"m","stream":null,"prompt_cache_key":7,"previous_response_id":[],"messages":null}'
        assert (await house.ask(post(body))).status == 200


async def test_an_encoded_body_is_415_unless_configured_to_pass() -> None:
    """Trap: an encoded request body cannot be read."""
    engine = Engine("a", plain)
    request = post(b"\x1f\x8b\x08\x00", extra=b"Content-Encoding: gzip\r\n")
    async with rig(engine) as house:
        assert (await house.ask(request)).status == 415
    async with rig(engine, encoded_bodies=True) as house:
        assert (await house.ask(request)).status == 200
    assert engine.calls[-1].header(b"content-encoding") == [b"gzip"]


async def test_a_request_without_model_goes_round_the_candidates_unless_one_is_required() -> None:
    engines = [Engine(name, plain, models=(name,)) for name in "abc"]
    async with rig(*engines) as house:
        assert sorted([str(served_by(await house.ask(post(b"{}")))) for _ in range(3)]) == ["a", "b", "c"]
        get = b"GET /v1/anything HTTP/1.1\r\nHost: h\r\n\r\n"
        assert sorted([str(served_by(await house.ask(get, "GET"))) for _ in range(3)]) == ["a", "b", "c"]
    async with rig(*engines, require_model=True) as house:
        answer = await house.ask(post(b"{}"))
        assert (answer.status, error_of(answer)["message"]) == (400, "you must provide a model parameter")


async def test_only_services_that_are_up_and_serve_inference_get_anything() -> None:
    engines = [
        Engine("babysitter", plain, inference=False),
        Engine("down", plain, up=False),
        Engine("a", plain),
    ]
    async with rig(*engines) as house:
        for request in (post(), post(b"{}")):
            for _ in range(4):
                assert served_by(await house.ask(request)) == "a"


async def test_each_model_takes_turns_of_its_own() -> None:
    """Defect: One round-robin counter for all models, and bursts (AAAB)."""
    engines = [Engine(name, plain, models=("x", "y")) for name in "ab"]
    async with rig(*engines) as house:
        order = [(await house.ask(post(b'{"model":"%c"}' % model))).body for model in b"xyxyxyxy"]
        assert order[0::2] == [b'{"from":"a"}', b'{"from":"b"}'] * 2
        assert order[1::2] == [b'{"from":"a"}', b'{"from":"b"}'] * 2


async def test_an_alias_changes_only_the_bytes_of_the_models_value() -> None:
    engine = Engine("a", plain)
    async with rig(engine, models={"m": ModelConfig(aliases=("gpt-4", "g"))}) as house:
        await house.ask(post(b'{ "x":"gpt-4" , "model" :  "gpt-4","y":{"model":"gpt-4"}}'))
        await house.ask(b"GET /props?a=g&model=g HTTP/1.1\r\nHost: h\r\n\r\n", "GET")
        form = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\ng\r\n--B--\r\n'
        head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        await house.ask(head + b"Content-Length: %d\r\n\r\n%b" % (len(form), form))
    assert engine.calls[0].body == b'{ "x":"gpt-4" , "model" :  "m","y":{"model":"gpt-4"}}'
    assert engine.calls[1].request_line == b"GET /props?a=g&model=m HTTP/1.1"
    assert engine.calls[2].body == form.replace(b"\r\n\r\ng\r\n", b"\r\n\r\nm\r\n")


async def test_an_id_made_by_one_engine_is_asked_for_there() -> None:
    async def script(call: Call) -> None:
        await call.answer(b'{"id": "resp_%b", "object":"response"}' % call.engine.name.encode())

    async with rig(*[Engine(name, script) for name in "abcd"]) as house:
        for _ in range(4):
            made = json.loads((await house.ask(post(path="/v1/responses"))).body)["id"]
            get = b"GET /v1/responses/%b HTTP/1.1\r\nHost: h\r\n\r\n" % made.encode()
            follow = post(b'{"model":"m","previous_response_id":"%b"}' % made.encode(), path="/v1/responses")
            for request in (get, get, follow, follow):
                answer = await house.ask(request)
                assert served_by(answer) == made.removeprefix("resp_")
                assert answer.header("x-enginehouse-reason") == "remembered"


async def test_a_remembered_id_is_forgotten_when_its_service_is_another_incarnation() -> None:
    async def script(call: Call) -> None:
        await call.answer(b'{"id": "resp_1"}')

    engine = Engine("a", script)
    async with rig(engine) as house:
        await house.ask(post(path="/v1/responses"))
        assert house.worker.recall("resp_1") == 0
        engine.extra["generation"] = 2
        house.worker.use_fleet(Fleet(version=2, synced=True, services=(service_of(engine, 0),)))
        assert house.worker.recall("resp_1") == -1


async def test_a_prompt_cache_key_pins_and_a_bare_peer_does_not() -> None:
    async with rig(*[Engine(name, plain) for name in "abcd"]) as house:
        pinned = {served_by(await house.ask(post(b'{"model":"m","prompt_cache_key":"k"}'))) for _ in range(6)}
        free = {served_by(await house.ask(post())) for _ in range(8)}
        assert len(pinned) == 1
        assert len(free) == 4


async def test_x_forwarded_for_pins_and_grows_when_it_comes_from_a_trusted_proxy_only() -> None:
    """Defect: The client's address is neither used nor forwarded, while a spoofed X-Forwarded-For steers affinity."""
    engines = [Engine(name, plain) for name in "abcd"]
    request = post(extra=b"X-Forwarded-For: 9.9.9.9, 8.8.8.8\r\n")
    async with rig(*engines) as house:
        assert len({served_by(await house.ask(request)) for _ in range(6)}) == 1
    assert [e.calls[0].header(b"x-forwarded-for") for e in engines if e.calls] == [[b"9.9.9.9, 8.8.8.8, 127.0.0.1"]]
    async with rig(*engines, trusted_proxies=("10.0.0.0/8",)) as house:
        assert len({served_by(await house.ask(request)) for _ in range(8)}) == 4
    assert engines[0].calls[-1].header(b"x-forwarded-for") == [b"127.0.0.1"]


async def test_every_answer_says_who_answered_how_often_it_was_tried_and_why() -> None:
    async with rig(Engine("a", plain)) as house:
        for request, status in ((post(), 200), (post(b'{"model":"nobody"}'), 503), (post(b"["), 400)):
            answer = await house.ask(request)
            assert answer.status == status
            for name in ("request-id", "enginehouse-service", "enginehouse-attempts", "enginehouse-queue-ms"):
                assert answer.header(f"x-{name}")
            assert float(answer.header("x-enginehouse-overhead-ms") or "x") < 1000
            assert answer.header("x-enginehouse-reason")


@pytest.mark.parametrize(("sent", "kept"), [("abc-1.2_3", True), ("a" * 128, True), ("a" * 129, False), ("a b", False)])
async def test_a_clients_request_id_is_kept_where_it_is_fit_and_reaches_the_engine(sent: str, kept: bool) -> None:
    async def script(call: Call) -> None:
        await call.answer(extra=b"x-request-id: the-engines-own\r\n")

    engine = Engine("a", script)
    async with rig(engine) as house:
        answer = await house.ask(post(extra=b"X-Request-Id: %b\r\n" % sent.encode()))
        assert (answer.header("x-request-id") == sent) is kept
        assert engine.calls[0].header(b"x-request-id") == [(answer.header("x-request-id") or "").encode()]


async def test_a_service_may_have_a_path_prefix_and_a_key_of_its_own() -> None:
    engine = Engine("a", plain, prefix="/engine1", api_key="sk-house")
    async with rig(engine, engines=(EngineAccess(services="a"),)) as house:
        answer = await house.ask(post(extra=b"Authorization: Bearer clients-own\r\n"))
        assert b"sk-house" not in answer.head + answer.body
    assert engine.calls[0].request_line == b"POST /engine1/v1/chat/completions HTTP/1.1"
    assert engine.calls[0].header(b"authorization") == [b"Bearer sk-house"]


async def test_without_a_key_of_the_service_the_clients_authorization_passes() -> None:
    engine = Engine("a", plain)
    async with rig(engine) as house:
        await house.ask(post(extra=b"Authorization: Bearer clients-own\r\n"))
    assert engine.calls[0].header(b"authorization") == [b"Bearer clients-own"]


async def test_size_routing_prefers_static_caches_for_long_texts_and_keeps_affinity_inside() -> None:
    """Defect: `cache_type` disables affinity."""
    engines = [Engine(f"{kind}{n}", plain, cache_type=kind) for kind in ("static", "paged") for n in range(3)]
    async with rig(*engines, cache_type_routing_threshold=1000, policy="round_robin") as house:

        async def ask(text: int, key: str = "") -> str:
            body = json.dumps({"model": "m", "prompt_cache_key": key, "messages": [{"content": "x" * text}]})
            return str(served_by(await house.ask(post(body.encode()))))

        assert {await ask(2000) for _ in range(6)} == {"static0", "static1", "static2"}
        assert {await ask(10) for _ in range(6)} == {"paged0", "paged1", "paged2"}
        pinned = {await ask(2000, "k") for _ in range(5)}
        assert len(pinned) == 1
        assert pinned.pop().startswith("static")


async def test_the_own_paths_are_a_502_while_control_cannot_be_reached_and_livez_still_answers() -> None:
    async with rig(Engine("a", plain)) as house:
        assert (await house.ask(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n", "GET")).status == 502
        for path in (b"/livez", b"/readyz"):
            answer = await house.ask(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path, "GET")
            assert (answer.status, answer.body) == (200, b"ok\n")


async def test_while_stopping_readyz_is_503_and_every_answer_closes_its_connection() -> None:
    """Trap: a closing keep-alive connection races the client's next request."""
    async with rig(Engine("a", plain)) as house:
        clients: list[Client] = [await house.client() for _ in range(2)]
        for client in clients:
            await client.send(post())
            assert (await client.answer()).header("connection") is None
        house.worker.stopping = True
        await clients[0].send(post())
        answer = await clients[0].answer()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert await clients[0].closed() == b""
        await clients[1].send(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await clients[1].answer("GET")).status == 503


async def test_a_changed_fleet_does_not_disturb_what_runs() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.answer()

    engine = Engine("a", script)
    async with rig(engine) as house:
        client = await house.client()
        await client.send(post())
        await until(lambda: engine.calls)
        house.worker.use_fleet(Fleet(version=2, synced=True))
        go.set()
        assert (await client.answer()).status == 200
        assert house.load() == 0
