"""`/explain`: a request put behind it is read as any other, and not sent; from outside, on control's own interface."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from enginehouse.core.config.router import ModelConfig
from enginehouse.core.shared import Standing
from enginehouse.policy.chunks import prompt_of, seed_of
from enginehouse.policy.prefix_index import PrefixIndex
from enginehouse.wire.peek import peek
from enginehouse.wire.prompt import text_of
from tests.control.rig import House, Scripted, house, scripted, static, write_static

CHAT = "/explain/v1/chat/completions"
LONG: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "All happy families are alike. " * 500}]}
M = {"models": ["m"]}


def two(directory: Path, one: Scripted, **settings: Any) -> AbstractAsyncContextManager[House]:
    """A control with services a and b of model m, which one engine plays."""
    services = static("a", one.port, metadata=M), static("b", one.port, metadata=M)
    return house(directory, static_services=write_static(directory / "s.json", *services), **settings)


def healthy_engine() -> AbstractAsyncContextManager[Scripted]:
    return scripted(health=(200, {}))


async def ask(
    running: House, path: str, body: Any = None, method: str = "POST", raw: bytes | None = None, **headers: str
) -> dict[str, Any]:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    sent: dict[str, Any] = {"json": body} if raw is None else {"data": raw}
    async with running.session.request(method, f"http://router{path}", headers=lines, **sent) as response:
        assert response.status == 200, await response.text()
        assert response.headers["content-type"] == "application/json"
        return dict(await response.json())


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {service["name"]: service for service in told["services"]}


async def test_a_request_is_explained_with_what_each_service_would_cost_it(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        told = await ask(running, CHAT, LONG)
        home, other = told["service"], "b" if told["service"] == "a" else "a"
        assert told["services"][0] == {
            "name": home,
            "candidate": True,
            "share": 1.0,
            "excluded": None,
            "note": "",
            "in_flight": 0,
            "capacity": None,
            "matched_bytes": 0,
            "matched_share": 0.0,
            "uncached_tokens": told["services"][0]["uncached_tokens"],
            "queued_tokens": 0,
            "held_tokens": 0,
            "cost_ms": told["services"][0]["cost_ms"],
            "tokens_per_second": 30_000.0,
            "bytes_per_token": 4.0,
        }
        assert by_name(told)[other]["share"] == 0.0
        del told["services"]
        assert told == {
            "path": "/v1/chat/completions",
            "asked_model": "m",
            "model": "m",
            "policy": "prefix",
            "result": "service",
            "service": home,
            "reason": "prefix",
            "status": None,
            "code": None,
            "outcome": None,
            "explanation": told["explanation"],
            "session": None,
            "prompt": {"bytes": len(str(LONG["messages"])), "chunks": 9},
        }
        assert one.asked.count("POST /v1/chat/completions") == 0


async def test_the_path_by_itself_means_chat_completions(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        assert await ask(running, "/explain", LONG) == await ask(running, CHAT, LONG)
        async with running.session.get("http://router/explain") as response:
            assert (response.status, response.headers["allow"]) == (405, "POST")
            assert "/v1/chat/completions" in (await response.json())["error"]["message"]


async def test_what_workers_have_learned_is_seen_and_explaining_teaches_nothing(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        for _ in range(3):
            told = await ask(running, CHAT, LONG)
            assert [service["matched_bytes"] for service in told["services"]] == [0, 0]
        other = told["services"][1]["name"]
        async with running.worker() as worker:
            fleet = await worker.until_up("a", "b")
        found = peek(str(LONG).replace("'", '"').encode(), True).prompt
        assert found is not None
        text = text_of(found, 1 << 20)
        assert text is not None
        known = next(service for service in fleet.services if service.name == other)
        PrefixIndex(running.shared).touch(known, prompt_of(text[1], seed_of("m")))
        told = await ask(running, CHAT, LONG)
        assert told["service"] == other
        assert by_name(told)[other]["matched_share"] > 0.7
        assert "soonest" in told["explanation"]
        running.shared.beats[0] = 1.0
        running.shared.queued[0][known.slot] = 30_000
        told = await ask(running, CHAT, LONG)
        assert told["service"] != other, "what it has to compute before takes longer than the whole prompt elsewhere"
        assert by_name(told)[other]["queued_tokens"] == 30_000


async def test_a_service_that_is_down_is_told_with_the_reason_that_control_knows(short_dir: Path) -> None:
    async with healthy_engine() as one, scripted(health=(503, {})) as ill:
        services = static("a", one.port, metadata=M), static("ill", ill.port, metadata=M)
        file = write_static(short_dir / "s.json", *services)
        async with house(short_dir, static_services=file) as running:
            await running.until_healthy("a")
            told = by_name(await ask(running, CHAT, LONG))["ill"]
            assert (told["candidate"], told["excluded"]) == (False, "down")
            assert told["note"] == "it is down: /health answered 503 Service Unavailable"


async def test_ejections_rests_and_caps_are_seen_as_the_workers_see_them(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one, service_capacity=3) as running:
        await running.until_healthy("a", "b")
        async with running.worker() as worker:
            slots = {service.name: service.slot for service in (await worker.until_up("a", "b")).services}
        running.shared.put(slots["a"], Standing(1, 1e12, 1e12 + 10))
        running.shared.beats[9] = 1.0  # a successor has a row of its own
        running.shared.loads[9][slots["b"]] = 2
        told = by_name(await ask(running, CHAT, LONG))
        assert (told["a"]["excluded"], told["b"]["in_flight"], told["b"]["capacity"]) == ("ejected", 2, 3)
        running.shared.loads[9][slots["b"]] = 3
        running.shared.readmit(slots["a"])
        running.shared.loads[9][slots["a"]] = 3
        told_whole = await ask(running, CHAT, LONG)
        assert (told_whole["result"], told_whole["service"]) == ("waits", None)
        assert by_name(told_whole)["a"]["excluded"] == "full"


async def test_the_newest_fleet_counts(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        assert set(by_name(await ask(running, CHAT, LONG))) == {"a", "b"}
        write_static(short_dir / "s.json", static("c", one.port, metadata=M))
        await running.until_healthy("c")
        assert (await ask(running, CHAT, LONG))["service"] == "c"


async def test_without_a_queue_who_would_wait_is_refused(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one, service_capacity=1, queue_size=0) as running:
        await running.until_healthy("a", "b")
        running.shared.beats[0] = 1.0
        for slot in range(len(running.shared.loads[0])):
            running.shared.loads[0][slot] = 1
        told = await ask(running, CHAT, LONG)
        assert (told["result"], told["status"], told["outcome"]) == ("refused", 503, "queue_full")


async def test_an_alias_is_resolved_and_any_api_is_read(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one, models={"m": ModelConfig(aliases=("big",))}) as running:
        await running.until_healthy("a", "b")
        for path, body in (
            ("/v1/completions", {"model": "big", "prompt": "x" * 5000}),
            ("/v1/messages", {"model": "big", "messages": [{"role": "user", "content": "x" * 5000}]}),
            ("/v1/responses", {"model": "big", "input": "x" * 5000}),
        ):
            told = await ask(running, "/explain" + path, body)
            assert (told["path"], told["asked_model"], told["model"]) == (path, "big", "m")
            assert told["prompt"]["chunks"] >= 4
        told = await ask(running, "/explain/v1/embeddings", {"model": "big", "input": "x" * 5000})
        assert told["prompt"] is None
        told = await ask(running, "/explain/props?model=big", method="GET")
        assert (told["path"], told["model"]) == ("/props", "m")


async def test_what_the_router_answers_itself_and_what_it_refuses_is_told(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        assert (await ask(running, "/explain/health", method="GET"))["result"] == "own"
        assert (await ask(running, "/explain/readyz", method="GET"))["result"] == "own"
        assert (await ask(running, "/explain/explain", LONG))["result"] == "own"
        for path, body, status, outcome in (
            ("/sleep", b"{}", 403, "path_denied"),
            ("/v1/chat/completions", b"{", 400, "bad_json"),
            ("/v1/chat/completions", b'{"model": 7}', 400, "bad_model"),
            ("/v1/chat/completions", b'{"model": "x"}', 503, "model_unknown"),
        ):
            told = await ask(running, "/explain" + path, raw=body, content_type="application/json")
            assert (told["result"], told["status"], told["outcome"]) == ("refused", status, outcome)
            assert told["explanation"]
        assert {service["excluded"] for service in told["services"]} == {"other_model"}


@pytest.mark.parametrize(
    ("forwarded", "session"),
    [
        ("10.0.0.9", ""),  # a bare peer
        ("203.0.113.5, 127.0.0.1", "m:ip:"),  # a trusted proxy told
        ("203.0.113.5, 198.51.100.1", ""),  # somebody told whom nobody trusts: no worker would pass it on
    ],
)
async def test_the_client_is_the_one_that_the_worker_saw(short_dir: Path, forwarded: str, session: str) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        told = await ask(running, CHAT, LONG, x_forwarded_for=forwarded)
        assert (told["session"] or "")[:5] == session


async def test_a_key_keeps_requests_together(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one) as running:
        await running.until_healthy("a", "b")
        told = [await ask(running, CHAT, LONG | {"prompt_cache_key": key}) for key in "abcdefgh"]
        assert {each["reason"] for each in told} == {"session"}
        assert {each["service"] for each in told} == {"a", "b"}


async def test_a_body_larger_than_the_router_takes_is_not_read_to_its_end(short_dir: Path) -> None:
    async with healthy_engine() as one, two(short_dir, one, max_body=20_000) as running:
        body = b'{"model": "m", "x": "' + b"x" * 30_000 + b'"}'
        async with running.session.post(f"http://router{CHAT}", data=body) as response:
            assert response.status == 413


async def test_before_the_first_fleet_it_is_told_that_nothing_is_known_yet(short_dir: Path) -> None:
    async with house(short_dir, registry_url="http://127.0.0.1:1") as running:
        told = await ask(running, CHAT, LONG)
        assert told["services"] == []
        assert told["result"] == "waits"
