"""Everything is replaced under load, part by part, and nobody notices: the router by reloads, engines one by one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import StartHouse, StartPart
from tests.e2e.house import House, children, is_part, simulated
from tests.e2e.load import Load
from tests.e2e.program import Program, get, until, until_so
from tests.e2e.test_kills import first_token, long_stream
from tests.sim import raw


async def order(house: House, *words: str) -> tuple[int, str]:
    """Exit status and output of a command about this house, run as its user runs it."""
    command = Program(*words, "--router", house.url, folder=house.file.parent)
    try:
        return await command.ended(60.0), command.output
    finally:
        await command.close()


def workers(house: House) -> set[int]:
    """Pids of the router's workers, those that finish included."""
    return {child.pid for child in children(house.pid_of("router")) if is_part(child, "worker", {})}


async def gone(pids: set[int]) -> None:
    """Until none of these processes is left."""
    await until_so(f"the end of {pids}", lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def service(house: House, name: str) -> dict[str, Any]:
    """What the router tells of a service."""
    _, body = await get(f"{house.url}/services")
    return next(each for each in body["services"] if each["name"] == name)


# the router


async def test_reloads_under_load_lose_nothing_and_replace_control_and_every_worker(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared"), simulated("b", "shared"), workers=2)
    await house.ready()
    async with Load(house.port, "shared", clients=8, repeats=True) as load:
        for _ in range(3):
            before = workers(house) | {house.pid_of("control")}
            status, output = await order(house, "reload")
            assert status == 0, output
            assert "control was replaced" in output
            assert len(re.findall(r"worker \d+ serves in place of worker \d+", output)) == 2
            await gone(before)
            await house.ready()
            await load.answers()
    print(f"{load.crossed} requests crossed the end of a kept connection")
    assert load.failures == []
    assert load.crossed == 0, "every client was told with its last answer"


async def test_a_long_stream_finishes_on_the_old_worker_while_others_are_answered_by_the_new_one(
    start_house: StartHouse,
) -> None:
    house = start_house(simulated("a", "shared", time_per_token=0.1))
    await house.ready()
    async with raw.line(house.port) as line:
        await line.send(long_stream(tokens=40))
        await first_token(line)
        old = workers(house)
        status, output = await order(house, "reload")
        assert status == 0, output
        assert "still finish what they have: 1" in output
        assert workers(house) > old
        assert (await service(house, "a-server"))["in_flight"] == 1
        reply = await raw.once(house.port, raw.chat(model="shared", max_tokens=1))
        assert reply.status == 200
        await line.until(b"[DONE]")
    await gone(old)
    await house.idle()


async def test_an_idle_connection_from_before_a_reload_is_answered_once_more_and_told_to_close(
    start_house: StartHouse,
) -> None:
    house = start_house(simulated("a", "shared"))
    await house.ready()
    async with raw.line(house.port) as kept:
        assert (await kept.ask("GET", "/readyz")).headers.get("connection") != "close"
        assert (await order(house, "reload"))[0] == 0
        await kept.send(raw.chat(model="shared", max_tokens=1))
        reply = await kept.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await kept.rest() == b""


async def test_a_reload_reads_the_file_again_and_refuses_one_that_is_wrong(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared"))
    await house.ready()
    text = house.file.read_text()

    async def asked(model: str) -> int:
        return (await raw.once(house.port, raw.chat(model=model, max_tokens=1))).status

    assert await asked("other") == 503
    aliased = text.replace("router = {", 'router = { "models" = { "shared" = { "aliases" = ["other"] } },')
    house.file.write_text(aliased)
    assert (await order(house, "reload"))[0] == 0
    assert await asked("other") == 200

    before = workers(house)
    for wrong, words in (
        (aliased.replace("router = {", 'router = { "polcy" = "random",'), "did you mean `policy`?"),
        (aliased.replace("router = {", 'router = { "workers" = 2,'), "a reload cannot change it, restart the router"),
        (aliased.replace("router = {", 'router = { "access_log" = "/nowhere/log",'), "/nowhere/log"),
        ("", "cannot change it"),
        ("[router", "not valid TOML"),
    ):
        house.file.write_text(wrong)
        status, output = await order(house, "reload")
        assert status == 1
        assert "not reloaded" in output
        assert words in output
    assert workers(house) == before
    assert await asked("other") == 200

    old = house.kill9("router")  # what a reload made of the settings outlives the router
    await house.successor(old, "router")
    await house.ready()
    assert await asked("other") == 200


async def test_sighup_to_the_whole_house_reloads_its_router(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared"))
    await house.ready()
    before = workers(house)
    async with Load(house.port, "shared", repeats=True) as load:
        os.kill(house.pid, signal.SIGHUP)
        await gone(before)
        await load.answers()
    assert load.failures == []
    assert len(workers(house)) == 1


async def test_a_router_alone_reloads_with_the_flags_and_the_file_it_was_started_with(
    start_part: StartPart, tmp_path: Path
) -> None:
    (tmp_path / "house.toml").write_text('[router]\nhost = "127.0.0.1"\nmax_head = 2048\n')
    router = start_part("router", "--config", "house.toml", "--router-port", "0")
    url = await router.first_line()
    port = int(url.rpartition(":")[2])

    async def long_head() -> int | None:
        return (await raw.once(port, raw.request("GET", "/health", None, f"x: {'y' * 4096}"))).status

    assert await until("431", long_head) == 431
    (tmp_path / "house.toml").write_text('[router]\nhost = "127.0.0.1"\n')
    os.kill(router.pid, signal.SIGHUP)
    await until_so("the end of the reload", lambda: "reloaded;" in router.output)
    assert await long_head() == 200


async def test_a_reload_while_the_registry_is_away_is_refused_and_everything_goes_on(start_house: StartHouse) -> None:
    """A control that knows nothing would take every service from the workers."""
    house = start_house(simulated("a", "shared"), health_timeout=0.5)
    await house.ready()
    registry, before = house.pid_of("registry"), workers(house)
    os.kill(registry, signal.SIGSTOP)
    try:
        async with Load(house.port, "shared") as load:
            status, output = await order(house, "reload")
            assert status == 1
            assert "the old one goes on" in output
            await load.answers()
    finally:
        os.kill(registry, signal.SIGCONT)
    assert load.failures == []
    assert workers(house) == before


async def test_a_router_that_is_told_to_stop_in_the_middle_of_a_reload_stops(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared"), workers=2)
    await house.ready()
    os.kill(house.pid, signal.SIGHUP)
    await until_so("its beginning", lambda: "the settings were read again" in house.output)
    house.ctrl_c()
    assert await house.ended() == 0
    assert house.remains() == []


# engines


async def test_a_rolling_restart_of_every_engine_under_load_loses_nothing(start_house: StartHouse) -> None:
    engines = [simulated(name, "shared", time_per_token=0.02) for name in ("a", "b")]
    house = start_house(*engines, workers=2)
    await house.ready()
    async with Load(house.port, "shared", clients=8) as load:
        streams = [asyncio.create_task(raw.once(house.port, long_stream(tokens=60))) for _ in range(6)]
        await load.answers(1)
        for name in house.engines:
            old, engine = house.pid_of("babysitter", name), house.pid_of("engine", name)
            os.kill(old, signal.SIGTERM)
            await house.successor(old, "babysitter", name)
            assert not psutil.pid_exists(engine)
            await house.ready()
            await load.answers()
        replies = await asyncio.gather(*streams)
    assert load.failures == []
    assert [raw.text_of(reply.body).count(" ") >= 59 for reply in replies] == [True] * 6
    assert all(reply.body.endswith(b"data: [DONE]\n\n") for reply in replies)


async def test_a_drained_service_finishes_what_it_has_and_gets_nothing_new_until_it_is_told_to_or_restarted(
    start_house: StartHouse,
) -> None:
    """Defect: no drain."""
    house = start_house(simulated("a", "shared", time_per_token=0.1), simulated("b", "shared"))
    await house.ready("a")
    async with raw.line(house.port) as line, Load(house.port, "shared") as load:
        while True:  # one long stream on a
            await line.send(long_stream(tokens=40))
            head = await line.until(b"\r\n\r\n")
            if b"x-enginehouse-service: a-server" in head:
                break
            await line.reply(head)
        status, output = await order(house, "drain", "a")
        assert (status, "a-server drains" in output) == (0, True), output
        waiting = asyncio.create_task(order(house, "drain", "a", "--wait"))

        async def told() -> bool:
            return (await service(house, "a-server"))["status"] == "draining"

        await until("the router's knowing of it", told)
        await load.answers()
        before = (await service(house, "a-server"))["request_count"]
        assert not waiting.done()
        await line.until(b"[DONE]")
        status, output = await waiting
        assert (status, "nothing is in flight" in output) == (0, True), output
        await load.answers()
        after = await service(house, "a-server")
        assert (after["drained"], after["in_flight"]) == (True, 0)
        assert after["request_count"] <= before + len(load.clients) + 1, "nothing but what was under way"
        assert (await order(house, "drain", "a", "--undo"))[0] == 0
        await house.ready()
        assert (await order(house, "drain", "a"))[0] == 0
        old = house.kill9("engine", "a")
        await house.successor(old, "engine", "a")
        await house.ready()
    assert load.failures == []
    assert json.loads((await raw.once(house.port, raw.chat(model="shared", max_tokens=1))).body)
