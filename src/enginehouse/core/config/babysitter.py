"""Settings of the babysitter: the inherited TOML shape, engine kinds included.

Owns names, defaults and bounds. May not live here: how an engine is started (`babysitter.recipes`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from enginehouse.core.config.base import Config, option


class Backend(Config, frozen=True):
    """`[backend]`: which engine to run, and with what.

    Which keys a kind needs is data in `babysitter.recipes`.
    """

    type: Annotated[
        str, option("command, vllm, sglang, llama.cpp, infinilm, infinilm-rust or mock", flag="--service-type")
    ] = "command"
    command: Annotated[str, option("program to run (kind `command`; for other kinds the program's path)")] = ""
    model: Annotated[str, option("model name or path (vllm, sglang, llama.cpp)")] = ""
    model_path: Annotated[str, option("model path (infinilm)")] = ""
    config_file: Annotated[str, option("configuration file of the engine (infinilm-rust)", flag="-")] = ""
    models: Annotated[tuple[str, ...], option("model ids the mock engine serves")] = ()
    args: Annotated[tuple[str, ...], option("arguments for the engine")] = ()
    work_dir: Annotated[str, option("directory the engine runs in")] = ""
    api_key_file: Annotated[str, option("file holding the engine's own API key, for reading its model list")] = ""
    env: Annotated[dict[str, str], option("environment of the engine, NAME=VALUE; values are never shown")] = (
        msgspec.field(default_factory=dict)
    )


class BabysitterLimits(Config, frozen=True):
    """`[babysitter]`: restarts, heartbeats, stopping."""

    max_restarts: Annotated[int, option("restarts without a stable run between them before giving up", ge=0)] = 10000
    restart_delay: Annotated[float, option("first delay before a restart; doubles up to the cap", unit="s", ge=0)] = 5.0
    max_restart_delay: Annotated[float, option("longest delay before a restart", unit="s", ge=0)] = 60.0
    stable_after: Annotated[float, option("a run this long resets the delay and the count", unit="s", gt=0)] = 60.0
    heartbeat_interval: Annotated[float, option("time between two heartbeats", unit="s", gt=0)] = 30.0
    ready_timeout: Annotated[float, option("an engine not ready after this is restarted", unit="s", gt=0)] = 1800.0
    probe_interval: Annotated[float, option("time between two probes of the engine", unit="s", gt=0)] = 5.0
    probe_timeout: Annotated[float, option("a probe slower than this has failed", unit="s", gt=0)] = 5.0
    probe_failures: Annotated[int, option("failed probes in a row before a ready engine is degraded", ge=1)] = 3
    degraded_timeout: Annotated[
        float, option("an engine degraded for this long is killed and started again", unit="s", gt=0)
    ] = 300.0
    drain_timeout: Annotated[
        float, option("running requests may finish for this long when stopping", unit="s", ge=0)
    ] = 30.0
    stop_timeout: Annotated[float, option("after SIGTERM the group is killed when this has passed", unit="s", gt=0)] = (
        10.0
    )
    log_dir: Annotated[str, option("directory of the engine's rotating log files")] = "logs"
    log_bytes: Annotated[int, option("size at which a log file is rotated; four are kept", unit="bytes", ge=4096)] = (
        8388608
    )


class BabysitterConfig(Config, frozen=True):
    """One engine and how it is looked after; the file `--config-file` names has this shape."""

    name: Annotated[
        str,
        option(
            "name of the service; the command line makes it KIND-PORT if it is left out",
            group="the service",
            pattern=r"^[A-Za-z0-9._-]{1,121}$",  # the engine itself is registered as NAME-server, 128 at most
        ),
    ]
    port: Annotated[int, option("port of the engine; the babysitter itself listens on port + 1", ge=1, le=65534)]
    host: Annotated[str, option("address to register, as the router reaches it")] = "localhost"
    weight: Annotated[int, option("share of the requests, relative to other services of a model", ge=1, le=1000)] = 1
    bind: Annotated[str, option("address the babysitter's own endpoints listen on")] = "0.0.0.0"
    registry_url: Annotated[str, option("registry to register with")] = ""
    registry_token_file: Annotated[str, option("file holding the registry's bearer token")] = ""
    admin_token_file: Annotated[
        str, option("file holding the token with which the engine's output may be read; empty: nobody may")
    ] = ""
    router_url: Annotated[str, option("router; a stop waits until it has nothing in flight for the engine")] = ""
    babysitter: Annotated[BabysitterLimits, option("restarts, heartbeats, stopping")] = BabysitterLimits()
    backend: Annotated[Backend, option("the engine")] = Backend()
    metadata: Annotated[dict[str, Any], option("merged over the generated metadata", flag="-")] = msgspec.field(
        default_factory=dict
    )
