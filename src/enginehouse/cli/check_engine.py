"""Checks of one engine: its kind, what the kind needs, and whether that is on this machine.

Owns the looking-up of programs, models, folders and key files. May not live here: how an engine is started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from enginehouse.babysitter.recipes import KINDS, WILDCARDS, order
from enginehouse.cli.findings import Finding, fail, ok, warn
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError
from enginehouse.core.record import RecordError, parse_record

# What to install for a program that is not there.
INSTALL = {
    "vllm": "pip install vllm, or give its path as backend.command",
    "llama-server": "install llama.cpp, or give the path of its llama-server as backend.command",
}
SECRET_ARGUMENTS = ("--api-key", "--api_key", "--hf-token", "--token")


def engine(config: BabysitterConfig) -> Iterator[Finding]:
    """Everything about one engine."""
    who = f"engine {config.name}"
    problems = [*_record(who, config), *_program(who, config), *_model(who, config), *_folders(who, config)]
    yield from problems
    yield from _secrets(who, config)
    if not problems:
        yield ok(f"{who}: {config.backend.type}, ready to be started")


def _record(who: str, config: BabysitterConfig) -> Iterator[Finding]:
    """As it will be registered."""
    host = "localhost" if config.host in WILDCARDS else config.host
    try:
        parse_record({"name": f"{config.name}-server", "host": host, "port": config.port, "metadata": config.metadata})
    except RecordError as error:
        yield fail(f"{who}: the registry would refuse it: {error}", f"change `{error.field}` of this engine")


def _program(who: str, config: BabysitterConfig) -> Iterator[Finding]:
    """The program that the kind of engine starts."""
    try:
        start = order(config, os.environ)
    except ConfigError as error:
        yield fail(f"{who}: {error}", f"kinds of engine: {', '.join(KINDS)}")
        return
    program, folder = start.argv[0], Path(start.cwd or ".")
    found = (folder / program).is_file() if "/" in program else shutil.which(program, path=start.env.get("PATH"))
    if not found:
        hint = INSTALL.get(program, "check the spelling and the PATH, or give the full path as backend.command")
        yield fail(f"{who}: the program {program} is not there", hint)


def _model(who: str, config: BabysitterConfig) -> Iterator[Finding]:
    """A model that is named by its path must be there; `org/name` is downloaded by the engine itself."""
    backend = config.backend
    for key in ("model", "model_path", "config_file"):
        name = getattr(backend, key)
        is_path = name.startswith(("/", "./", "../", "~")) or name.endswith((".gguf", ".toml", ".json"))
        if name and is_path and not (Path(backend.work_dir) / name).exists():
            yield fail(f"{who}: backend.{key} {name} is not there", "give a path that exists" + _home(name))


def _home(name: str) -> str:
    return "; ~ is not expanded, write the folder out" if name.startswith("~") else ""


def _folders(who: str, config: BabysitterConfig) -> Iterator[Finding]:
    if config.backend.work_dir and not Path(config.backend.work_dir).is_dir():
        yield fail(f"{who}: backend.work_dir {config.backend.work_dir} is no folder", "create it, or leave it out")
    logs = Path(config.babysitter.log_dir)
    nearest = next((folder for folder in (logs, *logs.resolve().parents) if folder.exists()), Path("/"))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        yield fail(f"{who}: log files cannot be written to {logs}", "choose another babysitter.log_dir")


def _secrets(who: str, config: BabysitterConfig) -> Iterator[Finding]:
    yield from secret_file(f"{who}: registry_token_file", config.registry_token_file)
    yield from secret_file(f"{who}: admin_token_file", config.admin_token_file)
    yield from secret_file(f"{who}: backend.api_key_file", config.backend.api_key_file)
    if any(word.split("=")[0] in SECRET_ARGUMENTS for word in config.backend.args):
        yield warn(
            f"{who}: a key among its arguments is seen by everybody in the list of processes",
            "give it in the engine's environment (backend.env), or in a file if the engine can read one",
        )


def secret_file(what: str, name: str) -> Iterator[Finding]:
    """A file that holds a key: there, not empty, not everybody's to read."""
    if not name:
        return
    if not readable(name):
        yield fail(f"{what} {name} cannot be read", "check the path, and that this user may read it")
    elif not Path(name).read_bytes().strip():
        yield fail(f"{what} {name} is empty", "write the key into it, on one line")
    elif Path(name).stat().st_mode & 0o077:
        yield warn(f"{what} {name} may be read by others on this machine", f"chmod 600 {name}")
    else:
        yield ok(f"{what} {name}")


def readable(name: str) -> bool:
    """A file that this user may read."""
    return Path(name).is_file() and os.access(name, os.R_OK)
