"""`enginehouse demo`: real models or why not, simulated ones in their place, free ports, nothing left behind."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from enginehouse.cli.demo import relocated, simulated
from enginehouse.cli.ports import claims
from enginehouse.cli.up import read_house
from enginehouse.core.config.house import HouseConfig
from tests.cli.programs import DEADLINE, Running, until
from tests.ports import Ports

Start = Callable[..., Running]

EXAMPLE = Path(__file__).parents[2] / "examples" / "demo.toml"
MODELS = ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2", "tiny-random"]


@pytest.fixture
def house(ports: Ports, tmp_path: Path) -> str:
    """The example with ports that no other test uses."""
    text = EXAMPLE.read_text().replace("[router]\n", f"[router]\nport = {ports.one()}\n")
    text = text.replace("[registry]\n", f"[registry]\nport = {ports.one()}\n")
    for engine in read_house(str(EXAMPLE)).engine:
        text = text.replace(f"port = {engine.port}", f'port = {ports.pair()}\nbind = "127.0.0.1"')
    path = tmp_path / "demo.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture
def demo(house: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the demo of that house; it is ended with the test."""
    started: list[Running] = []

    def start(*arguments: str, **environment: str) -> Running:
        started.append(Running("demo", "--house", house, *arguments, cwd=tmp_path, **environment))
        return started[-1]

    yield start
    for running in started:
        running.close()


def models(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/v1/models", timeout=DEADLINE) as response:
        return [model["id"] for model in json.load(response)["data"]]


def test_simulated_engines_serve_the_same_models_and_leave_nothing(demo: Start, tmp_path: Path) -> None:
    running = demo("--simulated")
    url = running.line()
    running.says("4 of 4 engines are ready after ")
    assert models(url) == MODELS
    running.interrupt()
    assert running.ended() == 0
    until("the end of all its processes", lambda: not running.descendants())
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == ["demo.toml", "stderr"]


def test_with_real_models_two_chat_models_answer_one_of_them_on_two_services_and_one_embeds(
    demo: Start,
) -> None:
    running = demo()
    running.says("minilm: ")
    url = running.says("http://127.0.0.1:")
    running.says("4 of 4 engines are ready after ")
    assert models(url) == MODELS
    served = [line for line in running.lines if " ready " in line and MODELS[0] in line]
    assert len(served) == 2
    body = {"model": MODELS[1], "input": "a house"}
    request = urllib.request.Request(
        f"{url}/v1/embeddings", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        assert len(json.load(response)["data"][0]["embedding"]) == 384


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("raise ModuleNotFoundError('xllamacpp')", "the package xllamacpp is not installed"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "llama.cpp does not run on this machine (ended by sig",
        ),
    ],
    ids=["not installed", "does not run"],
)
def test_where_real_engines_cannot_be_had_it_says_why_and_simulates_by_itself(
    demo: Start, tmp_path_factory: pytest.TempPathFactory, module: str, why: str
) -> None:
    folder = tmp_path_factory.mktemp("shadow")
    (folder / "xllamacpp.py").write_text(module)
    running = demo(PYTHONPATH=str(folder))
    url = running.says("http://")
    running.says("4 of 4 engines are ready after ")
    assert f"Real engines cannot be had here: {why}" in running.log.read_text()
    assert models(url) == MODELS


def test_a_port_that_is_taken_is_replaced_by_a_free_one_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    house = read_house(str(EXAMPLE))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        moved = relocated(with_router_port(house, port))
    assert moved.router.port not in (port, 0)
    assert f"Port {port} is in use by another program: taking {moved.router.port}." in capsys.readouterr().err
    ports = [claim.port for claim in claims(moved)]
    assert len(ports) == len(set(ports)) == 10


def with_router_port(house: HouseConfig, port: int) -> HouseConfig:
    return msgspec.structs.replace(house, router=msgspec.structs.replace(house.router, port=port))


def test_a_stand_in_has_the_name_of_the_model_that_clients_ask_for() -> None:
    stood_in = simulated(read_house(str(EXAMPLE)))
    assert [engine.backend.models for engine in stood_in.engine] == [
        (MODELS[0],),
        (MODELS[0],),
        (MODELS[2],),
        (MODELS[1],),
    ]
