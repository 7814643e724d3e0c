"""The parts' own commands: which configuration they make of flags, environment and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginehouse.cli.serve import babysitter_config, house_part, registry_parser, router_parser
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig


@pytest.fixture
def house_file(tmp_path: Path) -> str:
    path = tmp_path / "house.toml"
    path.write_text('[router]\nworkers = 3\n[registry]\nport = 9999\n[[engine]]\nname = "a"\nport = 9000\n')
    return str(path)


def test_router_and_registry_take_their_table_of_a_house_file(house_file: str) -> None:
    router = house_part(router_parser(), RouterConfig, "router", ["--config", house_file, "--router-port", "1"])
    assert (router.workers, router.port) == (3, 1)
    assert house_part(registry_parser(), RegistryConfig, "registry", ["--config", house_file]).port == 9999


def test_an_error_in_another_table_of_the_house_file_is_found_too(
    house_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(house_file).write_text("[registry]\nprot = 1\n")
    with pytest.raises(SystemExit) as end:
        house_part(router_parser(), RouterConfig, "router", ["--config", house_file])
    assert end.value.code == 2
    assert "house.toml: `registry`: unknown key `prot`; did you mean `port`?" in capsys.readouterr().err


INHERITED = """--service-type command --host 10.0.0.5 --port 8100 --command /opt/engine --args --port=8100
--work-dir /srv --registry-url http://r:8081 --router-url http://r:8080 --max-restarts 3 --restart-delay 1
--heartbeat-interval 7 --env A=1 --env B=2"""


def test_the_inherited_command_line_of_a_babysitter_is_understood() -> None:
    made = babysitter_config(INHERITED.split())
    assert (made.name, made.host, made.port) == ("command-8100", "10.0.0.5", 8100)
    assert (made.backend.command, made.backend.args, made.backend.work_dir) == ("/opt/engine", ("--port=8100",), "/srv")
    assert made.backend.env == {"A": "1", "B": "2"}
    assert (made.registry_url, made.router_url) == ("http://r:8081", "http://r:8080")
    limits = made.babysitter
    assert (limits.max_restarts, limits.restart_delay, limits.heartbeat_interval) == (3, 1.0, 7.0)


def test_arguments_of_the_engine_may_begin_with_a_dash() -> None:
    made = babysitter_config(["--port", "1", "--command", "x", "--args", "-c 4096 --flash-attn", "--args", "-v"])
    assert made.backend.args == ("-c", "4096", "--flash-attn", "-v")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("vLLM", "model"),
        ("sglang", "model"),
        ("llama.cpp", "model"),
        ("InfiniLM", "model_path"),
        ("InfiniLM-Rust", "config_file"),
        ("command", "command"),
    ],
)
def test_path_means_what_the_kind_of_engine_needs(kind: str, key: str) -> None:
    made = babysitter_config(["--port", "8100", "--service-type", kind, "--path", "/there"])
    assert getattr(made.backend, key) == "/there"
    assert made.backend.type == kind.lower()
    assert made.name == f"{kind.lower()}-8100"


def test_a_babysitters_file_has_the_inherited_shape_and_flags_go_before_it(tmp_path: Path) -> None:
    path = tmp_path / "engine.toml"
    path.write_text(
        'name = "a"\nhost = "h"\nport = 8100\nregistry_url = "http://r:1"\n'
        "[babysitter]\nmax_restarts = 5\nrestart_delay = 1\nheartbeat_interval = 10\n"
        '[backend]\ntype = "vllm"\nmodel = "m"\nargs = ["--tp", "2"]\nwork_dir = "/w"\nenv = { K = "V" }\n'
        '[metadata]\ncache_type = "paged"\n'
    )
    made = babysitter_config(["--config-file", str(path), "--port", "8200"])
    assert (made.name, made.host, made.port, made.registry_url) == ("a", "h", 8200, "http://r:1")
    assert (made.backend.type, made.backend.model, made.backend.args) == ("vllm", "m", ("--tp", "2"))
    assert made.metadata == {"cache_type": "paged"}
    assert made.babysitter.max_restarts == 5
