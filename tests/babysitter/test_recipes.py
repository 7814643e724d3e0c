"""The kinds of engine: what each is started with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from enginehouse.babysitter import recipes
from enginehouse.babysitter.recipes import KINDS, api_key, configured_models, order
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError, from_mapping


def config(backend: dict[str, Any], **more: Any) -> BabysitterConfig:
    return from_mapping(BabysitterConfig, {"name": "n", "port": 8000, "backend": backend} | more)


@pytest.mark.parametrize(
    ("backend", "argv"),
    [
        ({"type": "command", "command": "my engine --x"}, "my engine --x"),
        ({"type": "command", "command": "e", "args": ["--port", "{port}"]}, "e --port 8000"),
        ({"type": "vllm", "model": "org/m"}, "vllm serve org/m --host localhost --port 8000"),
        (
            {"type": "vLLM", "model": "m", "args": ["--max-model-len", "9"]},
            "vllm serve m --host localhost --port 8000 --max-model-len 9",
        ),
        (
            {"type": "vllm", "model": "m", "command": "python3 -m vllm.entrypoints.openai.api_server --model"},
            "python3 -m vllm.entrypoints.openai.api_server --model m --host localhost --port 8000",
        ),
        (
            {"type": "sglang", "model": "m"},
            "python3 -m sglang.launch_server --model-path m --host localhost --port 8000",
        ),
        ({"type": "llama.cpp", "model": "m.gguf"}, "llama-server -m m.gguf --host localhost --port 8000"),
        (
            {"type": "llama.cpp", "model": "tiny", "command": "{python} -m x"},
            f"{sys.executable} -m x -m tiny --host localhost --port 8000",
        ),
        (
            {"type": "infinilm", "model_path": "/m", "args": ["--dev", "nvidia"]},
            "python3 launch_server.py --model-path /m --host localhost --port 8000 --dev nvidia",
        ),
        ({"type": "InfiniLM-Rust", "config_file": "s.toml"}, "xtask service s.toml -p 8000"),
        (
            {"type": "mock", "models": ["a", "b"]},
            f"{sys.executable} -m enginehouse.cli.main sim --name n --host localhost --port 8000 --models a --models b",
        ),
    ],
)
def test_each_kind_is_started_with_its_own_words(backend: dict[str, Any], argv: str) -> None:
    assert order(config(backend), {}).argv == argv.split()


def test_all_kinds_of_the_contract_are_there() -> None:
    assert set(KINDS) == {"command", "vllm", "sglang", "llama.cpp", "infinilm", "infinilm-rust", "mock"}


def test_a_command_is_split_by_shell_rules_and_arguments_are_not_split_at_all() -> None:
    """Defect: Arguments are split on blanks."""
    backend = {"type": "command", "command": "'/my engines/run' --a \"b c\"", "args": ["d e", "{not: a name}", ""]}
    assert order(config(backend), {}).argv == ["/my engines/run", "--a", "b c", "d e", "{not: a name}", ""]


@pytest.mark.parametrize("host", ["0.0.0.0", "", "*"])
def test_an_engine_on_all_addresses_listens_on_all(host: str) -> None:
    argv = order(config({"type": "vllm", "model": "m"}, host=host), {}).argv
    assert argv[argv.index("--host") + 1] == "0.0.0.0"


def test_the_environment_is_ours_with_the_engines_laid_over_it() -> None:
    backend = {"type": "command", "command": "e", "env": {"B": "engine", "C": "3"}, "work_dir": "/tmp"}
    made = order(config(backend), {"A": "1", "B": "ours"})
    assert made.env == {"A": "1", "B": "engine", "C": "3", "PYTHONUNBUFFERED": "1"}
    assert made.cwd == "/tmp"


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (
            {"type": "lama.cpp", "model": "m"},
            "`backend.type`: there is no kind of engine 'lama.cpp'; did you mean 'llama.cpp'?",
        ),
        ({"type": "zzz"}, "valid kinds: command, vllm"),
        ({"type": "sglang"}, "`backend.model`: an engine of kind 'sglang' needs it, e.g. model = "),
        ({"type": "infinilm"}, "`backend.model_path`"),
        ({"type": "infinilm-rust"}, "`backend.config_file`"),
        ({"type": "command"}, "`backend.command`"),
        ({"type": "command", "command": "  "}, "`backend.command`"),
        ({"type": "command", "command": "e 'open"}, "`backend.command`: cannot be split into words"),
    ],
)
def test_a_backend_that_cannot_work_is_refused_with_the_key_and_an_example(
    backend: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        order(config(backend), {})
    assert message in str(caught.value)


def test_the_engines_key_comes_from_its_file_or_from_the_variable_its_kind_knows(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")
    vllm = {"type": "vllm", "model": "m", "env": {"VLLM_API_KEY": "from-env"}}
    assert api_key(config(vllm | {"api_key_file": str(file)}), {}) == "from-file"
    assert api_key(config(vllm), {"VLLM_API_KEY": "ours"}) == "from-env"
    assert api_key(config({"type": "vllm", "model": "m"}), {"VLLM_API_KEY": "ours"}) == "ours"
    assert api_key(config({"type": "command", "command": "e"}), {"": "odd", "VLLM_API_KEY": "ours"}) == ""


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary"):
        with pytest.raises(ConfigError, match=rf"backend\.api_key_file.*{name}"):
            api_key(config({"type": "command", "command": "e", "api_key_file": str(tmp_path / name)}), {})


def test_models_told_by_the_configuration() -> None:
    mock = {"type": "mock", "models": ["a"]}
    assert configured_models(config(mock)) == [{"id": "a", "object": "model"}]
    assert configured_models(config(mock, metadata={"models": ["b", "c"]})) == [
        {"id": "b", "object": "model"},
        {"id": "c", "object": "model"},
    ]
    assert configured_models(config({"type": "command", "command": "e"})) == []


def test_every_example_is_for_a_key_that_some_kind_needs() -> None:
    assert set(recipes.EXAMPLES) == {row.needs[0] for row in KINDS.values() if row.needs}
