"""A babysitter as a whole: a real process, a real registry, an engine that misbehaves, looked at from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web

from enginehouse.babysitter import keeper
from enginehouse.babysitter.main import run
from enginehouse.babysitter.registration import Errors
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import from_mapping
from tests.babysitter.conftest import Start
from tests.babysitter.house import DEADLINE, Registry, alive, engine_args, get, gone, until
from tests.ports import Ports
from tests.registry.running import stub


def journal(tmp_path: Path) -> list[str]:
    file = tmp_path / "journal"
    return file.read_text().splitlines() if file.exists() else []


def pids(tmp_path: Path) -> list[int]:
    return [int(line.split()[1]) for line in journal(tmp_path) if line.startswith("pid ")]


async def test_the_first_line_is_the_url_and_the_rest_tells_what_happens(start: Start, registry: Registry) -> None:
    async with start(registry, models=["a", "b"]) as sitter:
        await registry.has("demo-server")
        await sitter.says("registered as demo-server")
        assert await sitter.stop() == 0
    assert sitter.lines[0] == sitter.url
    for words in ("starting", "registered as demo with", "ready after", "serves a, b", "stopped"):
        assert words in sitter.text


async def test_sigterm_deregisters_stops_the_engine_and_exits_with_0(
    start: Start, registry: Registry, tmp_path: Path
) -> None:
    """Defect: No SIGTERM handling: the engine is orphaned and stays registered."""
    async with start(registry) as sitter:
        await registry.has("demo-server")
        assert await sitter.stop(signal.SIGTERM) == 0
        assert await registry.service("demo") is None
        assert await registry.service("demo-server") is None
        await gone(pids(tmp_path))


async def test_sigint_does_the_same(start: Start, registry: Registry, tmp_path: Path) -> None:
    async with start(registry) as sitter:
        await registry.has("demo-server")
        assert await sitter.stop(signal.SIGINT) == 0
        await registry.lacks("demo-server")
        await gone(pids(tmp_path))


async def test_the_engine_gets_no_requests_when_it_is_terminated_and_is_terminated_twice_before_it_is_killed(
    start: Start, registry: Registry, tmp_path: Path
) -> None:
    asked = f"{registry.url}/services/demo-server"
    async with start(registry, deaf=9, registered_at=asked) as sitter:
        await registry.has("demo-server")
        assert await sitter.stop() == 0
    told = [line for line in journal(tmp_path) if line.startswith(("signal", "registered"))]
    assert told[1] in ("registered draining", "registered 404")
    assert [told[0], *told[2:]] == ["signal 15", "signal 15", "registered 404"]
    assert "killed, it did not stop in time" in sitter.text
    assert "SIGKILL" in sitter.text


async def test_an_engine_that_heeds_only_the_second_sigterm_is_not_killed(start: Start, tmp_path: Path) -> None:
    async with start(deaf=1) as sitter:
        await sitter.becomes("healthy")
        assert await sitter.stop() == 0
    assert journal(tmp_path).count("signal 15") == 2
    assert "stopped: ended with exit status 0" in sitter.text


async def test_a_request_that_runs_when_the_babysitter_is_stopped_is_answered_to_its_end(start: Start) -> None:
    # Longer than the engine would get after SIGTERM.
    async with start(sim={"models": ["m"], "time_per_token": 0.2, "tokens": 16}) as sitter:
        await sitter.becomes("healthy")
        ask = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
        url = f"http://127.0.0.1:{sitter.config['port']}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=ask) as response:
            await response.content.readany()
            for number in (signal.SIGINT, signal.SIGTERM):  # from the terminal and from who started it: one stop
                sitter.process.send_signal(number)
            rest = await response.content.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert await sitter.ended() == 0


async def test_an_engine_that_is_stopped_is_draining_until_its_last_answer_and_then_gone(
    start: Start, registry: Registry
) -> None:
    async with start(registry, sim={"models": ["m"], "time_per_token": 0.2, "tokens": 16}) as sitter:
        await registry.has("demo-server")
        ask = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
        url = f"http://127.0.0.1:{sitter.config['port']}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=ask) as response:
            await response.content.readany()
            sitter.process.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                service = await registry.service("demo-server")
                return service is not None and (service["status"], service["is_healthy"]) == ("draining", False)

            await until("its draining", draining)
            assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
        await registry.lacks("demo-server")
        assert await sitter.ended() == 0


async def test_an_engine_is_not_stopped_before_the_router_has_nothing_left_for_it(start: Start) -> None:
    """A request may be on its way, or wait in the router, of which the engine does not know."""
    looks = 0

    async def router(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal looks
        assert request.path == "/services"
        looks += 1
        listed = [{"name": "other-server", "drained": True}, {"name": "demo-server", "drained": looks > 5}]
        return web.json_response({"services": listed})

    async with stub(router) as port, start(more={"router_url": f"http://127.0.0.1:{port}/"}) as sitter:
        await sitter.becomes("healthy")
        assert await sitter.stop() == 0
        assert looks == 7, "twice in a row it had nothing left"


@pytest.mark.parametrize("says", [{"services": []}, {"services": 3}, [], "no JSON"])
async def test_a_router_that_does_not_know_the_engine_keeps_nobody_waiting(start: Start, says: object) -> None:
    async def router(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=says) if isinstance(says, str) else web.json_response(says)

    limits = {"drain_timeout": 600.0}
    async with (
        stub(router) as port,
        start(more={"router_url": f"http://127.0.0.1:{port}"}, babysitter=limits) as sitter,
    ):
        await sitter.becomes("healthy")
        assert await sitter.stop() == 0


async def test_an_idle_engine_is_not_kept_waiting_for_the_drain_timeout(start: Start) -> None:
    async with start(babysitter={"drain_timeout": 600.0}) as sitter:
        await sitter.becomes("healthy")
        assert await sitter.stop() == 0


@pytest.mark.parametrize("family", ["group", "daemon"])
async def test_kill_9_of_the_babysitter_leaves_no_engine_process_grandchildren_in_other_sessions_included(
    start: Start, tmp_path: Path, family: str
) -> None:
    """Defect: no process group (children of the engine survive).

    Trap: the parent-death signal does not reach grandchildren.
    """
    async with start(family=family) as sitter:
        await sitter.becomes("healthy")

        async def all_there() -> list[int] | None:
            found = pids(tmp_path)
            return found if len(found) == 3 else None

        everybody = await until("three pids", all_there)
        assert all(alive(pid) for pid in everybody)
        guard = psutil.Process(sitter.process.pid).children()[0].pid
        sitter.process.kill()
        await gone([*everybody, guard])


@pytest.mark.parametrize("family", ["group", "daemon"])
async def test_an_engine_that_crashes_leaves_no_child_behind_before_it_is_started_again(
    start: Start, tmp_path: Path, family: str
) -> None:
    async with start(family=family) as sitter:
        await sitter.becomes("healthy")

        async def all_there() -> list[int] | None:
            found = pids(tmp_path)
            return found if len(found) == 3 else None

        first = await until("three pids", all_there)
        os.kill(first[0], signal.SIGKILL)
        await until("a second run", lambda: second(tmp_path))
        assert not any(alive(pid) for pid in first)
        await sitter.stop()
        await gone(pids(tmp_path))


async def second(tmp_path: Path) -> bool:
    return sum(line.startswith("args") for line in journal(tmp_path)) == 2


async def test_kill_9_of_the_guard_leaves_no_engine_and_it_is_started_again(start: Start, tmp_path: Path) -> None:
    async with start() as sitter:
        await sitter.becomes("healthy")
        engine = pids(tmp_path)
        psutil.Process(sitter.process.pid).children()[0].kill()
        await sitter.says("its guard process was killed")
        await gone(engine)
        await sitter.becomes("healthy")
        assert await sitter.stop() == 0


async def test_kill_9_of_the_engine_takes_it_out_of_the_registry_within_2_s_and_it_comes_back_by_itself(
    start: Start, registry: Registry, tmp_path: Path
) -> None:
    """Defect: heartbeats go on while the child is dead."""
    async with start(registry, babysitter={"restart_delay": 3.0, "max_restart_delay": 3.0}) as sitter:
        await registry.has("demo-server")
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await registry.lacks("demo-server", deadline=2.0)
        status, body = await sitter.health()
        assert (status, body["status"], body["infinilm_server_running"]) == (503, "backing off", False)
        assert body["reason"] == "was ended by SIGKILL"
        # It does not come back by a heartbeat: it stays away while the engine is dead.
        assert await registry.service("demo-server") is None
        assert await registry.service("demo") is not None
        await sitter.becomes("healthy")
        await registry.has("demo-server")
        _, info = await get(f"{sitter.url}/info")
        assert info["restart_count"] == 1


async def test_health_is_503_with_the_reason_until_the_engine_is_ready(start: Start, tmp_path: Path) -> None:
    """Defect: `/health` is always 200."""
    loaded = tmp_path / "loaded"
    async with start(loading=str(loaded)) as sitter:

        async def loading() -> dict[str, Any] | None:
            _, body = await sitter.health()
            return body if body and body["reason"] and "Loading" in body["reason"] else None

        body = await until("the engine's own words", loading)
        assert body["status"] == "starting"
        assert (await sitter.health())[0] == 503
        assert body["reason"] == "/v1/models answers 503: Loading model"
        status, refused = await get(f"{sitter.url}/models")
        assert (status, refused["error"]["code"]) == (503, "server_is_overloaded")
        loaded.touch()
        await sitter.becomes("healthy")
        status, _ = await get(f"{sitter.url}/models")
        assert status == 200


async def test_too_many_crashes_end_in_failed_with_the_last_lines_and_what_to_do(
    start: Start, registry: Registry, tmp_path: Path
) -> None:
    async with start(registry, crash=3, words="no such model: x", babysitter={"max_restarts": 2}) as sitter:
        body = await sitter.becomes("failed")
        assert (body["reason"], body["infinilm_server_running"]) == ("ended with exit status 3", False)
        status, _ = await sitter.health()
        assert status == 503
        line = await sitter.says("gave up after 2 restarts")
        await sitter.says("no such model: x")
        assert "last lines" in line
        assert str(tmp_path / "logs" / "demo.log") in sitter.text
        assert sum(line.startswith("args") for line in journal(tmp_path)) == 3
        assert await registry.service("demo-server") is None
        status, _ = await get(f"{sitter.url}/livez")
        assert status == 200
        assert await sitter.stop() == 1


async def test_restarts_are_further_and_further_apart(start: Start) -> None:
    """Defect: Fixed restart delay, a counter that never resets."""
    async with start(crash=1, babysitter={"max_restarts": 4}) as sitter:
        await sitter.becomes("failed")
    delays = [line.split("; restart ")[1].split()[2] for line in sitter.lines if "; restart " in line]
    assert delays == ["0.1", "0.2", "0.4", "0.8"]


async def test_a_program_that_does_not_exist_is_named(start: Start) -> None:
    async with start(backend={"command": "no-such-engine"}) as sitter:
        line = await sitter.says("backing off")
        assert "cannot be started: no-such-engine: No such file or directory" in line


async def test_the_engines_stdout_is_drained_during_start_up_so_that_it_cannot_block(
    start: Start, tmp_path: Path
) -> None:
    """Defect: The engine's stdout is not drained during start-up, so it can block."""
    async with start(flood=10 << 20, babysitter={"log_bytes": 1 << 20}) as sitter:
        await sitter.becomes("healthy")
        files = sorted((tmp_path / "logs").iterdir())
        assert [file.name for file in files] == ["demo.log", "demo.log.1", "demo.log.2", "demo.log.3"]
        assert all(file.stat().st_size <= 1 << 20 for file in files)


async def test_arguments_with_blanks_reach_the_engine_as_they_are(start: Start, tmp_path: Path) -> None:
    """Defect: Arguments are split on blanks."""
    async with start() as probe:
        await probe.becomes("healthy")
        await probe.stop()
    (tmp_path / "journal").unlink()
    args = ["--chat-template", "{% if x %} a b {% endif %}", "", "{'a': 1}", "ünïcode"]
    options = json.dumps({"port": probe.config["port"], "journal": str(tmp_path / "journal")})
    async with start(backend={"args": [options, *args]}) as sitter:
        del sitter

        async def written() -> str | None:
            return next((line for line in journal(tmp_path) if line.startswith("args")), None)

        assert json.loads((await until("arguments", written)).removeprefix("args ")) == args


async def test_environment_values_are_never_shown(start: Start, registry: Registry, tmp_path: Path) -> None:
    """Defect: Environment values (secrets) are logged."""
    secret = "sk-do-not-show-this-0123456789"
    backend = {"env": {"ENGINE_KEY": secret}}
    async with start(registry, backend=backend, crash_after=1.0, words="my key is $ENGINE_KEY") as sitter:
        await registry.has("demo-server")
        command_lines = [psutil.Process(pid).cmdline() for pid in [sitter.process.pid, *sitter.family()]]
        assert len(command_lines) >= 3
        assert psutil.Process(pids(tmp_path)[0]).environ()["ENGINE_KEY"] == secret
        answers = [await get(f"{sitter.url}{path}") for path in ("/health", "/info", "/models", "/nothing")]
        records = [await registry.service(name) for name in ("demo", "demo-server")]
        await sitter.says("my key is ***")
        await sitter.stop()
    assert secret not in str(command_lines)
    assert secret not in str(answers)
    assert secret not in str(records)
    assert secret not in sitter.text


async def test_a_wildcard_is_never_registered_as_an_address(start: Start, registry: Registry) -> None:
    """Defect: `0.0.0.0` is registered as an address."""
    async with start(registry, more={"host": "0.0.0.0"}) as sitter:
        for name in ("demo", "demo-server"):
            record = await registry.has(name)
            assert record["host"] == record["hostname"] == "127.0.0.1"  # from where this registry is reached
            assert record["url"] == f"http://127.0.0.1:{record['port']}"
        _, info = await get(f"{sitter.url}/info")
        assert info["host"] == "127.0.0.1"


async def test_registration_is_retried_until_the_registry_is_there(start: Start, ports: Ports) -> None:
    """Defect: Registration is not retried."""
    late = Registry(ports.one())
    async with start(late) as sitter:
        await sitter.becomes("healthy")
        await sitter.says("demo-server is not registered: the registry cannot be reached")
        await late.start()
        try:
            await late.has("demo")
            await late.has("demo-server")
            await sitter.says("registered as demo-server")
            await sitter.stop()
        finally:
            await late.stop()


async def test_a_registry_that_forgot_everything_is_told_again(start: Start, registry: Registry) -> None:
    """Defect: a registry that restarts loses the service until its babysitter restarts."""
    async with start(registry) as sitter:
        await registry.has("demo-server")
        await registry.stop()
        await registry.start()
        await registry.has("demo")
        await registry.has("demo-server")
        await sitter.stop()


async def test_heartbeats_keep_both_records_alive(start: Start, registry: Registry) -> None:
    async with start(registry):
        for name in ("demo", "demo-server"):
            first = (await registry.has(name))["last_heartbeat"]

            async def renewed(name: str = name, first: float = first) -> bool:
                record = await registry.service(name)
                return bool(record and record["last_heartbeat"] > first + 0.2)

            await until(f"heartbeat of {name}", renewed)


async def test_an_engine_without_models_is_registered_with_those_of_the_configuration(
    start: Start, registry: Registry
) -> None:
    """Defect: An engine without `/models` never registers."""
    async with start(registry, no_models=True, more={"metadata": {"models": ["told"]}}) as sitter:
        record = await registry.has("demo-server")
        assert record["metadata"]["models"] == ["told"]
        assert record["metadata"]["models_list"] == [{"id": "told", "object": "model"}]
        status, body = await get(f"{sitter.url}/models")
        assert (status, [model["id"] for model in body["data"]]) == (200, ["told"])


async def test_a_changed_list_of_models_is_registered(start: Start, registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "models"
    file.write_text('["one"]')
    async with start(registry, models_file=str(file)) as sitter:
        assert (await registry.has("demo-server"))["metadata"]["models"] == ["one"]
        file.write_text('["one", "adapter"]')

        async def both() -> bool:
            record = await registry.service("demo-server")
            return bool(record and record["metadata"]["models"] == ["one", "adapter"])

        await until("two models", both)
        await sitter.says("serves one, adapter now")


async def test_an_engine_that_hangs_is_degraded_and_recovers(start: Start, registry: Registry, tmp_path: Path) -> None:
    async with start(registry, babysitter={"probe_timeout": 0.3}) as sitter:
        await registry.has("demo-server")
        engine = pids(tmp_path)[0]
        os.kill(engine, signal.SIGSTOP)
        body = await sitter.becomes("degraded")
        assert body["infinilm_server_running"] is True

        async def has_status(status: str) -> bool:
            record = await registry.service("demo-server")
            return bool(record and record["status"] == status)

        await until("degraded in the registry", lambda: has_status("degraded"))
        await asyncio.sleep(0.7)  # two heartbeats, which may not make it look well
        assert await has_status("degraded")
        os.kill(engine, signal.SIGCONT)
        await sitter.becomes("healthy")
        await until("running in the registry", lambda: has_status("running"))


async def test_an_engine_that_hangs_for_good_is_killed_and_started_again(start: Start, tmp_path: Path) -> None:
    async with start(babysitter={"probe_timeout": 0.2, "degraded_timeout": 0.5}) as sitter:
        await sitter.becomes("healthy")
        os.kill(pids(tmp_path)[0], signal.SIGSTOP)
        await sitter.says("restarting: without an answer for 0.5 s")
        await until("a second run", lambda: second(tmp_path))
        await sitter.becomes("healthy")


async def test_a_silent_engine_holds_up_nothing(start: Start) -> None:
    """Defect: No HTTP timeouts."""
    async with start(silent=True, babysitter={"probe_timeout": 0.3}) as sitter:

        async def reason() -> dict[str, Any] | None:
            _, body = await sitter.health()
            return body if body and body["reason"] == "no answer within 0.3 s" else None

        assert (await until("a reason", reason))["status"] == "starting"
        assert await sitter.stop() == 0


async def test_a_babysitter_started_right_after_kill_9_waits_for_the_port_of_the_old_engine(
    start: Start, tmp_path: Path, ports: Ports
) -> None:
    async with start(family="group") as first:
        await first.becomes("healthy")
        old = pids(tmp_path)
        first.process.kill()
        await first.ended()
        (tmp_path / "journal").unlink()
        backend = engine_args(first.config["port"], journal=str(tmp_path / "journal"))
        async with start(more={"port": first.config["port"]}, backend=backend) as again:
            await again.becomes("healthy")
            await gone(old)


async def refused(config: dict[str, Any]) -> tuple[int, list[str]]:
    """Run a babysitter that cannot start, in this process."""
    lines: list[str] = []

    def no_client(session: aiohttp.ClientSession) -> Any:
        raise AssertionError("nothing to register")

    async with asyncio.timeout(DEADLINE):
        errors = Errors(LookupError, LookupError, LookupError)
        code = await run(from_mapping(BabysitterConfig, config), no_client, errors, os.environ, lines.append)
    return code, lines


async def test_an_engine_port_that_another_program_keeps_is_refused_with_the_next_step(
    ports: Ports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "PORT_PATIENCE", 0.2)
    port = ports.pair()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        limits = {"log_dir": str(tmp_path)}
        code, lines = await refused(
            {"name": "x", "port": port, "bind": "127.0.0.1", "babysitter": limits, "backend": engine_args(port)}
        )
    assert code == 1
    assert f"port {port} is taken by another program: stop that one" in lines[-1]
    assert "or give this engine another port" in lines[-1]


async def test_a_babysitter_port_that_is_taken_is_refused_with_the_next_step(ports: Ports, tmp_path: Path) -> None:
    port = ports.pair()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        limits = {"log_dir": str(tmp_path)}
        code, lines = await refused(
            {"name": "x", "port": port, "bind": "127.0.0.1", "babysitter": limits, "backend": engine_args(port)}
        )
    assert code == 1
    assert f"the babysitter itself needs port {port + 1} (port + 1)" in lines[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": {"type": "vlm", "model": "m"}}, "did you mean 'vllm'?"),
        ({"backend": {"type": "vllm"}}, "`backend.model`: an engine of kind 'vllm' needs it"),
        ({"backend": {"type": "command", "command": "say 'hello"}}, "`backend.command`: cannot be split"),
        ({"metadata": {"models": "not-a-list"}}, "`metadata.models`: must be a list"),
        ({"host": "not a host"}, "`host`: must be a host name"),
        ({"babysitter": {"log_dir": "/proc/nowhere"}}, "set log_dir to a directory that can"),
    ],
)
async def test_a_configuration_that_cannot_work_is_refused_with_the_key_and_the_next_step(
    change: dict[str, Any], words: str, ports: Ports, tmp_path: Path
) -> None:
    config = {"name": "x", "port": ports.pair(), "babysitter": {"log_dir": str(tmp_path)}, "backend": engine_args(1)}
    code, lines = await refused(config | change)
    assert code == 1
    assert words in lines[-1]


async def test_start_up_takes_little_processor_time() -> None:
    """The budget of a house that answers its first request 1.5 s after its start."""
    code = "import time, uvloop, enginehouse.babysitter.main; print(time.process_time())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert float(out) < 1.0  # 0.22 s on an idle machine; a loaded one counts more for the same work
