"""Parts of a house are killed, frozen and told to stop under load: what clients notice, and what remains."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import psutil

from tests.e2e.conftest import StartHouse, StartPart
from tests.e2e.engines import SimFactory
from tests.e2e.house import simulated
from tests.e2e.load import Load
from tests.e2e.program import accepts, until
from tests.sim import raw

SOON = 2.0
"""Seconds. What the issue demands of an engine's disappearance."""


def long_stream(model: str = "shared", tokens: int = 40) -> bytes:
    """A streamed request for so many tokens, whatever the model thinks of it."""
    return raw.chat(True, model=model, max_tokens=tokens, ignore_eos=True)


async def first_token(line: raw.Line) -> None:
    """Until the answer is under way."""
    await line.until(b'"content":"')
    await line.until(b'"content":"')


# engines


async def test_a_killed_engine_leaves_models_at_once_and_comes_back_by_itself_while_others_serve(
    start_house: StartHouse,
) -> None:
    """It takes 10 s to start: who can go elsewhere does not wait for it, who cannot is answered when it is back."""
    house = start_house(simulated("slow", "only", "shared", ready_after=10), simulated("quick", "shared"))
    await house.ready()
    assert await house.models() == {"only", "shared"}
    async with Load(house.port, "shared") as load:
        old = house.kill9("engine", "slow")
        killed_at = time.monotonic()

        async def gone() -> bool:
            return "only" not in await house.models()

        await until("`only` is not in /v1/models", gone, SOON)
        print(f"out of /v1/models {time.monotonic() - killed_at:.3f} s after the kill")

        waiting = asyncio.create_task(raw.once(house.port, raw.chat(model="only")))
        await load.answers()
        new = await house.successor(old, "engine", "slow")
        await house.ready()
        assert house.pid_of("engine", "slow") == new
        await load.answers()
        late = await waiting
    assert load.failures == []
    assert late.status == 200
    assert int(late.headers["x-enginehouse-queue-ms"]) > 0


async def test_a_stream_whose_engine_is_killed_ends_with_an_error_never_as_if_it_were_complete(
    start_house: StartHouse,
) -> None:
    house = start_house(simulated("a", "shared", time_per_token=0.2, tokens=1000))
    await house.ready()
    async with raw.line(house.port) as line:
        await line.send(long_stream(tokens=1000))
        await line.until(b"\r\n\r\n")
        chunks = line.chunks()
        assert b'"content"' in await anext(chunks)
        house.kill9("engine", "a")
        rest = b"".join([chunk async for chunk in chunks])
    assert b"[DONE]" not in rest
    last = json.loads(raw.events(rest)[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "bad_gateway"
    assert last["choices"][0]["finish_reason"] == "error"
    await house.ready()


# the registry


async def test_a_killed_registry_comes_back_with_every_service_and_no_request_fails_meanwhile(
    start_house: StartHouse,
) -> None:
    house = start_house(simulated("a", "shared"), simulated("b", "shared"))
    await house.ready()
    everybody = {"a", "a-server", "b", "b-server"}

    async def all_registered() -> bool:
        return await house.registered() == everybody

    await until("registration of everybody", all_registered)
    async with Load(house.port, "shared") as load:
        old = house.kill9("registry")
        await load.answers()
        await house.successor(old, "registry")
        assert await until("its first answer", house.registered) == everybody
        assert await house.healthy() == {"a-server", "b-server"}
        await load.answers()
    assert load.failures == []


# the router


async def test_requests_go_on_while_router_control_is_dead_and_its_own_paths_answer_again_soon(
    start_house: StartHouse,
) -> None:
    house = start_house(simulated("a", "shared"), simulated("b", "shared"))
    await house.ready()
    async with Load(house.port, "shared") as load:
        old = house.kill9("control")
        await load.answers()
        await house.successor(old, "control")
        await house.ready()
        assert await house.models() == {"shared"}
        await load.answers()
    assert load.failures == []


async def test_a_killed_worker_is_replaced_and_the_requests_on_the_others_notice_nothing(
    start_house: StartHouse,
) -> None:
    house = start_house(simulated("a", "shared"), simulated("b", "shared"), workers=2)
    await house.ready()
    async with Load(house.port, "shared", clients=12) as load:
        mine = peers_of(house.pid_of("worker", "1"))
        elsewhere = [client for client in load.clients if client.local_port in mine]
        here = [client for client in load.clients if client not in elsewhere]
        assert elsewhere
        assert here
        old = house.kill9("worker", "0")
        await house.successor(old, "worker", "0")
        await load.answers()
    assert [client.failures for client in elsewhere] == [[]] * len(elsewhere)
    assert max(len(client.failures) for client in here) <= 1, "one connection was cut, the next one is answered"


async def test_connections_that_wait_while_the_only_worker_is_dead_are_all_answered_by_the_next_one(
    start_house: StartHouse,
) -> None:
    """Trap: replacing a worker on a socket held by the parent loses nobody; closing a listener would reset them."""
    house = start_house(simulated("a", "shared"))
    await house.ready()
    house.kill9("worker", "0")
    answers = await asyncio.gather(*[raw.once(house.port, raw.chat(model="shared", max_tokens=1)) for _ in range(60)])
    assert [answer.status for answer in answers] == [200] * 60


async def test_a_frozen_worker_is_replaced_within_seconds(start_house: StartHouse) -> None:
    """Trap: a stopped (SIGSTOP) worker stalls its share."""
    house = start_house(simulated("a", "shared"), workers=2)
    await house.ready()
    async with Load(house.port, "shared", clients=12) as load:
        old = house.pid_of("worker", "0")
        mine = peers_of(house.pid_of("worker", "1"))
        elsewhere = [client for client in load.clients if client.local_port in mine]
        assert 0 < len(elsewhere) < len(load.clients)
        os.kill(old, signal.SIGSTOP)
        frozen_at = time.monotonic()
        await house.successor(old, "worker", "0", deadline=10.0)
        print(f"replaced {time.monotonic() - frozen_at:.2f} s after it was frozen")
        await load.answers()
    assert [client.failures for client in elsewhere] == [[]] * len(elsewhere)


async def test_a_killed_supervisor_is_replaced_while_streams_finish_on_the_old_worker(start_house: StartHouse) -> None:
    """The leftovers check of the session also sees that the folder of the dead one's sockets is gone."""
    house = start_house(simulated("a", "shared", time_per_token=0.1))
    await house.ready()
    async with raw.line(house.port) as line:
        await line.send(long_stream())
        await first_token(line)
        old = house.kill9("router")
        await house.successor(old, "router")
        await house.ready()
        reply = await raw.once(house.port, raw.chat(model="shared", max_tokens=1))
        assert reply.status == 200
        await line.until(b"[DONE]")


def peers_of(pid: int) -> set[int]:
    """The remote ports of all connections of a process."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return {each.raddr.port for each in connections if each.status == psutil.CONN_ESTABLISHED}


async def test_a_router_told_to_stop_finishes_its_streams_and_refuses_new_requests_honestly(
    start_part: StartPart, sim_engine: SimFactory, tmp_path: Path
) -> None:
    engine = sim_engine(models=("shared",), time_per_token=0.1, tokens=30)
    services = [{"name": "plain", "host": "127.0.0.1", "port": engine.port}]
    (tmp_path / "services.json").write_text(json.dumps(services))
    words = ("--host", "127.0.0.1", "--router-port", "0", "--workers", "2", "--static-services", "services.json")
    router = start_part("router", *words)
    port = int((await router.first_line()).rpartition(":")[2])

    async def ready() -> bool:
        return (await raw.once(port, raw.chat(model="shared", max_tokens=1))).status == 200

    await until("the first answer", ready)
    streams = [asyncio.create_task(raw.once(port, long_stream(tokens=30))) for _ in range(8)]
    await engine.until(lambda stats: stats["active"] >= len(streams))
    async with raw.line(port) as kept:
        assert (await kept.ask("GET", "/readyz")).status == 200
        os.kill(router.pid, signal.SIGTERM)
        reply = await kept.ask("GET", "/readyz")
        while reply.status == 200:
            reply = await kept.ask("GET", "/readyz")
        assert reply.status == 503
        assert reply.headers["connection"] == "close"
    turned_away = 0
    while not all(stream.done() for stream in streams):
        turned_away += await is_turned_away(port)
    for stream in streams:
        answer = await stream
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert raw.text_of(answer.body).count(" ") >= 29
    assert await router.ended() == 0
    assert not await accepts(port)
    assert turned_away


async def is_turned_away(port: int) -> bool:
    """A new request to a router that stops: 503, or refused. Anything else is a lie."""
    try:
        got, error = await raw.to_the_end(port, raw.chat(model="shared", max_tokens=1))
    except ConnectionRefusedError:
        return True
    assert error is None, (error, got)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 "), got
    assert json.loads(body)["error"]["code"] == "server_is_overloaded"
    return True


# the whole house


async def test_nothing_remains_of_a_house_whose_first_process_is_killed(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared"), simulated("b", "shared"), workers=2)
    await house.ready()
    async with Load(house.port, "shared") as load:
        os.kill(house.pid, signal.SIGKILL)
        await house.nothing_remains(15.0)
    assert all(client.answered for client in load.clients)
    assert await house.ended() == -signal.SIGKILL


async def test_ctrl_c_ends_the_whole_house_in_order_and_nothing_of_it_remains(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared", time_per_token=0.05, tokens=30), simulated("b", "shared"), workers=2)
    await house.ready()
    async with raw.line(house.port) as line:
        await line.send(long_stream(tokens=20))
        await line.until(b"\r\n\r\n")
        house.ctrl_c()
        body = b"".join([chunk async for chunk in line.chunks()])
    assert body.endswith(b"data: [DONE]\n\n")
    assert await house.ended() == 0
    assert house.remains() == []
    assert "Stopped." in house.output
    assert "started again" not in house.output
