"""The kinds of engine, as data: how each is started, where it tells its health, where its key is.

Owns the table and the making of an `Order` from a configuration. May not live here: starting anything, readiness.
A new kind of engine is a new row.

In every word of `command` and `args`, `{python}` (the interpreter that runs us), `{name}`, `{host}`, `{port}`,
`{model}` and `{config_file}` are replaced; other braces are left alone.
"""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from enginehouse.babysitter.guard import Order
from enginehouse.core.config.babysitter import BabysitterConfig, Backend
from enginehouse.core.config.base import ConfigError

ANY_ADDRESS = {"": "0.0.0.0", "*": "0.0.0.0"}
WILDCARDS = frozenset({"0.0.0.0", "::", *ANY_ADDRESS})


class Recipe(NamedTuple):
    """One kind of engine."""

    needs: tuple[str, ...]
    """Keys of `[backend]` of which one must be given."""
    program: str
    """How it is started unless `command` says otherwise, split by shell rules."""
    arguments: str
    """What goes between the program and `args`."""
    health: str = "/health"
    """Path that answers below 500 once it is ready, asked where there is no list of models."""
    key_variable: str = ""
    """Variable of the engine's environment that holds its API key."""


MODEL = ("model", "model_path")
SERVED = "--host {host} --port {port}"
KINDS: dict[str, Recipe] = {
    "command": Recipe(("command",), "", ""),
    "vllm": Recipe(MODEL, "vllm serve", "{model} " + SERVED, key_variable="VLLM_API_KEY"),
    "sglang": Recipe(MODEL, "python3 -m sglang.launch_server", "--model-path {model} " + SERVED),
    "llama.cpp": Recipe(MODEL, "llama-server", "-m {model} " + SERVED, key_variable="LLAMA_API_KEY"),
    "infinilm": Recipe(("model_path", "model"), "python3 launch_server.py", "--model-path {model} " + SERVED),
    "infinilm-rust": Recipe(("config_file",), "xtask service", "{config_file} -p {port}"),
    "mock": Recipe((), "{python} -m enginehouse.cli.main sim", "--name {name} " + SERVED),
}


def recipe(backend: Backend) -> Recipe:
    """The row of a kind, checked. Raises `ConfigError` for an unknown kind and for a key that the kind needs."""
    try:
        row = KINDS[backend.type.lower()]  # the inherited program wrote "vLLM" and "InfiniLM-Rust"
    except KeyError:
        near = difflib.get_close_matches(backend.type.lower(), KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid kinds: {', '.join(KINDS)}"
        raise ConfigError(f"there is no kind of engine {backend.type!r}; {hint}", key="backend.type") from None
    if row.needs and not _first(backend, row.needs).strip():
        key = row.needs[0]
        raise ConfigError(f"an engine of kind {backend.type!r} needs it, e.g. {EXAMPLES[key]}", key=f"backend.{key}")
    return row


def _first(backend: Backend, keys: tuple[str, ...]) -> str:
    return next((value for key in keys if (value := str(getattr(backend, key)))), "")


EXAMPLES = {
    "command": 'command = "my-engine --port 8000"',
    "model": 'model = "org/model-name"',
    "model_path": 'model_path = "/models/name"',
    "config_file": 'config_file = "service.toml"',
}


def order(config: BabysitterConfig, environ: Mapping[str, str]) -> Order:
    """What the guard shall start. `environ` is our own environment; the engine's `env` is laid over it.

    Raises `ConfigError`.
    """
    backend = config.backend
    row = recipe(backend)
    words = _split(backend.command or row.program, "backend.command") + row.arguments.split()
    if backend.type.lower() == "mock":
        words += [word for model in backend.models for word in ("--models", model)]
    values = {
        "{python}": sys.executable,
        "{name}": config.name,
        "{host}": ANY_ADDRESS.get(config.host, config.host),
        "{port}": str(config.port),
        "{model}": _first(backend, MODEL),
        "{config_file}": backend.config_file,
    }
    # Unbuffered: what a Python engine printed last before it was killed is what one wants to read.
    env = {**environ, "PYTHONUNBUFFERED": environ.get("PYTHONUNBUFFERED", "1"), **backend.env}
    return Order([_fill(word, values) for word in (*words, *backend.args)], env, backend.work_dir)


def api_key(config: BabysitterConfig, environ: Mapping[str, str]) -> str:
    """The key that the engine's model list needs, "" for none. Raises `ConfigError` where its file cannot be read."""
    if config.backend.api_key_file:
        return read_secret(config.backend.api_key_file, "backend.api_key_file")
    variable = recipe(config.backend).key_variable
    return config.backend.env.get(variable) or environ.get(variable, "") if variable else ""


def read_secret(file: str, key: str) -> str:
    """A file's content without blanks around it. Raises `ConfigError` naming the file, never its content."""
    try:
        with open(file, encoding="utf-8") as source:  # noqa: PTH123
            return source.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise ConfigError(f"{file}: {reason}; make it a readable file that holds the key only", key=key) from None


def configured_models(config: BabysitterConfig) -> list[dict[str, Any]]:
    """The models the configuration tells of, for an engine that has no list of its own."""
    told = config.metadata.get("models")
    names = [name for name in told if isinstance(name, str)] if isinstance(told, list) else list(config.backend.models)
    return [{"id": name, "object": "model"} for name in names]


def _split(text: str, key: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"cannot be split into words ({error})", key=key) from None


def _fill(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word
