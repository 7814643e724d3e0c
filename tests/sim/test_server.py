"""The simulated engine as a process: how it starts, stops, and refuses settings."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from enginehouse.core.config.sim import SimConfig
from enginehouse.sim.server import serve
from tests.e2e.engines import SimFactory
from tests.ports import Ports
from tests.sim import raw


def run(settings: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail."""
    command = [sys.executable, "-m", "enginehouse.sim", settings]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_first_line_says_where_it_listens(sim_engine: SimFactory) -> None:
    sim = sim_engine(host="::1")
    assert sim.url == f"http://[::1]:{sim.port}"
    with socket.create_connection(("::1", sim.port)):
        pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"nmae": "a"}', "did you mean `name`"),
        ('{"name": "a b"}', "name"),
        ('{"faults": ["rest"]}', "unknown fault `rest`"),
        ('{"port": 70000}', "port"),
        ("{", "truncated"),
        ('{"api_key_file": "/nonexistent/key"}', "/nonexistent/key"),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_one_line(settings: str, message: str) -> None:
    ended = run(settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_port_in_use_ends_it_with_one_line(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    ended = run(json.dumps({"port": sim.port}))
    assert ended.returncode == 1
    assert ended.stderr == f"cannot listen on 127.0.0.1:{sim.port}: Address already in use\n"


def test_it_comes_back_on_the_same_port_after_a_crash(sim_engine: SimFactory, ports: Ports) -> None:
    first = sim_engine(port=ports.one())
    assert first.request("GET", "/health")[0] == 200
    first.kill9()
    assert sim_engine(port=first.port).request("GET", "/health")[0] == 200


async def test_sigterm_lets_a_running_answer_end_and_then_exits(sim_engine: SimFactory) -> None:
    sim = sim_engine(tokens=20, time_per_token=0.02)
    async with raw.line(sim.port) as line, raw.line(sim.port) as idle:
        await line.send(raw.chat(stream=True))
        await line.until(b"data: ")
        sim.signal(signal.SIGTERM)
        assert await idle.rest() == b"", "an idle connection is closed at once"
        assert (await line.rest()).endswith(b"0\r\n\r\n")
    assert sim.wait() == 0


async def test_a_second_signal_cuts_what_is_still_running(sim_engine: SimFactory) -> None:
    sim = sim_engine(tokens=1_000_000, time_per_token=0.01)
    async with raw.line(sim.port) as line, raw.line(sim.port) as idle:
        await line.send(raw.chat(stream=True))
        await line.until(b"data: ")
        sim.signal(signal.SIGINT)
        await idle.rest()
        sim.signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            await line.rest()
    assert sim.wait() == 0


async def test_it_can_be_served_inside_a_program() -> None:
    server = await serve(SimConfig(name="inside"))
    reply = await raw.once(server.port, raw.chat())
    assert reply.headers["x-sim-name"] == "inside"
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await raw.once(server.port, raw.chat())
