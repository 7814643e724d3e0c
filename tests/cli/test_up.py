"""`enginehouse up`: what it prints, what answers, and that nothing of it is left, however it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from enginehouse.cli.ports import url
from enginehouse.cli.up import complete, read_house
from enginehouse.core.config.base import ConfigError
from tests.cli.programs import DEADLINE, Running, run, until
from tests.ports import Ports

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands in the test's folder; they are ended with the test."""
    started: list[Running] = []

    def begin(*arguments: str, **environment: str) -> Running:
        started.append(Running(*arguments, cwd=tmp_path, **environment))
        return started[-1]

    yield begin
    for running in started:
        running.close()


@pytest.fixture
def house(ports: Ports, tmp_path: Path) -> str:
    """A file: two simulated engines, one of which wants a secret in its environment."""
    path = tmp_path / "house.toml"
    path.write_text(f"""
        [router]
        host = "127.0.0.1"
        port = {ports.one()}
        [registry]
        host = "127.0.0.1"
        port = {ports.one()}
        [[engine]]
        name = "a"
        port = {ports.pair()}
        bind = "127.0.0.1"
        backend = {{ type = "mock", models = ["chat", "org/other"], env = {{ SECRET = "s3cr3t" }} }}
        [[engine]]
        name = "embed"
        port = {ports.pair()}
        bind = "127.0.0.1"
        backend = {{ type = "mock", models = ["vectors"] }}
    """)
    return str(path)


def answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=DEADLINE) as response:
        return json.load(response)


def test_the_first_line_is_the_url_each_engine_is_followed_until_it_is_ready_and_the_curl_works(
    start: Start, house: str
) -> None:
    up = start("up", house)
    url = up.line()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    up.says("2 of 2 engines are ready after ")
    told = "\n".join(up.lines)
    for name, models in (("a", "chat, org/other"), ("embed", "vectors")):
        assert re.search(rf"^  {name} +starting +mock, port \d+$", told, re.MULTILINE)
        assert re.search(rf"^  {name} +ready +in \d+\.\d s  {models}$", told, re.MULTILINE)
    curl = told[told.index("curl ") :].partition("\n\n")[0]
    done = subprocess.run(["bash", "-c", curl], capture_output=True, timeout=DEADLINE, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
    assert json.loads(done.stdout)["model"] == "chat"


def test_ctrl_c_ends_everything_in_order_with_exit_status_0(start: Start, house: str) -> None:
    up = start("up", house)
    up.says("engines are ready")
    assert len(up.descendants()) >= 9  # itself, registry, router, control, worker, 2 babysitters, 2 guards, 2 engines
    up.interrupt()
    up.says("Stopped.")
    assert up.ended() == 0
    until("the end of all its processes", lambda: not up.descendants())


def test_ctrl_c_waits_for_a_running_request_and_a_second_one_does_not(start: Start, house: str) -> None:
    text = Path(house).read_text().replace('models = ["chat"', 'args = ["--ttft", "600"], models = ["chat"')
    Path(house).write_text(text)
    up = start("up", house)
    url = up.line()
    up.says("engines are ready")
    with begun(url, {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}):
        until("the request in flight", lambda: answer(f"{url}/stats")["details"]["a-server"]["in_flight"] == 1)
        up.interrupt()
        up.says("Stopping: running requests may finish. Ctrl-C again ends everything at once.")
        assert up.process.poll() is None
        up.interrupt()
        assert up.ended() == 0
    until("the end of all its processes", lambda: not up.descendants())


@contextlib.contextmanager
def begun(url: str, body: dict[str, Any]) -> Iterator[None]:
    """A request whose answer is not waited for."""
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    yield
    connection.close()


def test_ctrl_c_during_the_start_leaves_nothing_either(start: Start, house: str) -> None:
    up = start("up", house)
    up.line()
    up.interrupt()
    assert up.ended() == 0
    until("the end of all its processes", lambda: not up.descendants())


def test_kill_9_of_up_itself_leaves_no_process_of_the_house_behind(start: Start, house: str) -> None:
    up = start("up", house)
    up.says("engines are ready")
    os.kill(up.process.pid, signal.SIGKILL)
    up.ended()
    until("the end of all its processes", lambda: not up.descendants())


def test_a_part_that_dies_is_said_and_started_again(start: Start, house: str) -> None:
    up = start("up", house)
    url = up.line()
    up.says("engines are ready")
    registry = next(p for p in up.descendants() if "registry" in p.cmdline())
    registry.kill()
    up.says("registry: its process ended (signal SIGKILL) and is started again")
    until("another registry", lambda: any("registry" in p.cmdline() for p in others(up, registry)))
    until("health of both engines", lambda: answer(f"{url}/health")["healthy_services"].startswith("2/"))


def others(up: Running, gone: psutil.Process) -> list[psutil.Process]:
    return [process for process in up.descendants() if process.pid != gone.pid]


def test_no_registry_is_started_where_the_router_follows_another_one(start: Start, house: str, ports: Ports) -> None:
    text = Path(house).read_text().replace("[router]", f'[router]\nregistry_url = "http://127.0.0.1:{ports.one()}"')
    Path(house).write_text(text)
    up = start("up", house)
    up.says("  a ")
    until("the babysitters", lambda: sum("babysitter" in p.cmdline() for p in up.descendants()) == 2)
    assert not any("registry" in p.cmdline() for p in up.descendants())


def test_an_engine_that_dies_is_said_with_the_reason_and_again_when_it_is_back(start: Start, house: str) -> None:
    up = start("up", house)
    up.says("engines are ready")
    engine = next(p for p in up.descendants() if p.cmdline()[1:4] == ["-m", "enginehouse.cli.main", "sim"])
    name = engine.cmdline()[engine.cmdline().index("--name") + 1]
    engine.kill()
    assert up.says(f"  {name:<5}  backing off").endswith(f"was ended by SIGKILL; see logs/{name}.log")
    up.says(f"  {name:<5}  ready ")


def test_settings_and_secrets_are_not_in_the_list_of_processes_nor_in_what_is_printed(start: Start, house: str) -> None:
    up = start("up", house)
    up.says("engines are ready")
    assert "s3cr3t" not in " ".join(word for process in up.descendants() for word in process.cmdline())
    assert "s3cr3t" not in "\n".join(up.lines) + up.log.read_text()


def test_a_port_that_somebody_has_is_named_before_anything_is_started(house: str, ports: Ports, start: Start) -> None:
    up = start("up", house)
    up.says("engines are ready")
    done = run("up", house)
    assert done.returncode == 2
    assert re.match(r"enginehouse up: port \d+ for the router is in use by another program", done.stderr)
    assert "choose another port in the file" in done.stderr


def test_the_registrys_port_is_looked_at_too(house: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        Path(house).write_text(
            re.sub(r"(\[registry\].*?port = )\d+", rf"\g<1>{port}", Path(house).read_text(), flags=re.DOTALL)
        )
        assert f"port {port} for the registry is in use" in run("up", house, cwd=tmp_path).stderr


def test_ports_that_clash_within_the_file_are_named_with_the_fix(tmp_path: Path) -> None:
    engine = '[[engine]]\nname = "{}"\nport = {}\nbackend = {{ type = "mock" }}\n'
    (tmp_path / "house.toml").write_text(engine.format("a", 9000) + engine.format("b", 9001))
    done = run("up", "house.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "port 9001 is wanted by the babysitter of a and by the engine b" in done.stderr
    assert "give the engine b another port" in done.stderr


def test_an_engine_that_nobody_could_start_is_named_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text('[[engine]]\nname = "a"\nport = 9000\nbackend = { type = "vlm" }\n')
    done = run("up", "house.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("enginehouse up: engine a: `backend.type`: there is no kind of engine 'vlm'; did you")


def test_an_engine_that_gives_up_is_said_once_with_the_reason_and_its_log_and_the_others_go_on(
    start: Start, house: str
) -> None:
    limits = "{ max_restarts = 1, restart_delay = 0.1 }"
    text = Path(house).read_text().replace('type = "mock", models = ["vectors"]', 'command = "false"')
    Path(house).write_text(text.rstrip() + f"\nbabysitter = {limits}\n")
    up = start("up", house)
    assert up.says("failed").split("failed")[1].strip() == "ended with exit status 1; see logs/embed.log"
    if not any("1 of 2 engines are ready after " in line for line in up.lines):
        up.says("1 of 2 engines are ready after ")
    assert sum(" failed " in line for line in up.lines) == 1


def test_the_environment_goes_before_the_file_for_registry_and_router(
    house: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINEHOUSE_ROUTER_WORKERS", "2")
    monkeypatch.setenv("ENGINEHOUSE_REGISTRY_STALE_AFTER", "90")
    made = read_house(house)
    assert (made.router.workers, made.registry.stale_after) == (2, 90.0)
    monkeypatch.setenv("ENGINEHOUSE_ROUTER_WORKERS", "many")
    with pytest.raises(ConfigError, match="ENGINEHOUSE_ROUTER_WORKERS: expected a whole number, got 'many'"):
        read_house(house)


def test_the_parts_are_introduced_to_each_other_unless_the_file_did(tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_text(
        '[registry]\nport = 7001\ntoken_file = "t"\n[router]\nport = 0\n'
        '[[engine]]\nname = "a"\nport = 9000\n[[engine]]\nname = "b"\nport = 9010\nregistry_url = "http://elsewhere:1"\n'
    )
    made = complete(read_house(str(path)))
    assert made.router.port != 0
    assert (made.router.registry_url, made.router.registry_token_file) == ("http://127.0.0.1:7001", "t")
    assert [engine.registry_url for engine in made.engine] == ["http://127.0.0.1:7001", "http://elsewhere:1"]
    assert {engine.router_url for engine in made.engine} == {url("", made.router.port)}
    assert {engine.registry_token_file for engine in made.engine} == {"t"}


@pytest.mark.parametrize(
    ("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("10.0.0.5", "10.0.0.5")]
)
def test_a_part_that_listens_everywhere_is_reached_on_the_loopback_address(host: str, reached: str) -> None:
    assert url(host, 80) == f"http://{reached}:80"
