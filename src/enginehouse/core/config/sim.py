"""Settings of the simulated engine.

Owns names, defaults and bounds. May not live here: how an engine behaves, and what a fault does (see `sim.faults`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from enginehouse.core.config.base import Config, option

Style = Literal["vllm", "llama.cpp"]
EngineModel = Literal["none", "h100-8b", "a100-7b", "dynamo-mocker"]


class SimConfig(Config, frozen=True):
    """A simulated engine: what it calls itself, how fast it is, whose manners it has, what goes wrong."""

    name: Annotated[
        str, option("name it gives in every answer, so that one sees who answered", pattern=r"^[A-Za-z0-9._-]{1,128}$")
    ] = "sim"
    host: Annotated[str, option("address to listen on")] = "127.0.0.1"
    port: Annotated[int, option("port to listen on; 0 lets the system choose, and it is printed", ge=0, le=65535)] = 0
    models: Annotated[tuple[str, ...], option("models it serves")] = ("sim-model",)
    style: Annotated[
        Style,
        option(
            "manners: vllm sends the head of a stream at once and keeps the connection; llama.cpp sends it with the "
            "first token, sends comments while it is silent, knows every model and closes after a stream"
        ),
    ] = "vllm"
    ready_after: Annotated[float, option("answers 503 `Loading model` for so long", unit="s", ge=0)] = 0.0
    ttft: Annotated[float, option("time to the first token", unit="s", ge=0)] = 0.0
    time_per_token: Annotated[float, option("time for each further token", unit="s", ge=0)] = 0.0
    slots: Annotated[
        int, option("requests it works on at the same time, further ones wait inside it; 0: any number", ge=0)
    ] = 0
    tokens: Annotated[int, option("longest answer; a request may ask for less", unit="tokens", ge=0)] = 16
    context: Annotated[int, option("context length it tells; longer prompts are refused", unit="tokens", ge=1)] = 131072
    ping_interval: Annotated[float, option("silence before llama.cpp's style sends a comment", unit="s", gt=0)] = 1.0
    idle_timeout: Annotated[float, option("idle connections are closed after this; 0: never", unit="s", ge=0)] = 0.0
    api_key: Annotated[str, option("key that clients must send, /health excepted", flag="-", secret=True)] = ""
    api_key_file: Annotated[str, option("file holding that key")] = ""
    faults: Annotated[
        tuple[str, ...], option("what goes wrong, as `kind:field=value,…`, e.g. `reset:after=3`", flag="--fault")
    ] = ()
    engine_model: Annotated[
        EngineModel,
        option(
            "whose batching, speed and KV cache it has, in place of `ttft`, `time_per_token` and `slots`; see "
            "docs/explanation/simulated-engine.md",
            group="engine model",
        ),
    ] = "none"
    time_scale: Annotated[float, option("seconds of the model that pass in one real second", gt=0)] = 1.0
    slow_factor: Annotated[
        float, option("how many times as long as usual it takes; `POST /sim/engine` changes it while it runs", gt=0)
    ] = 1.0
    stream_interval: Annotated[
        int, option("tokens in one event of a stream, the first one excepted, which comes alone", ge=1)
    ] = 1
    kv_tokens: Annotated[int, option("tokens that fit in the KV cache; 0: the model's", unit="tokens", ge=0)] = 0
    block_size: Annotated[int, option("tokens in a block of the KV cache; 0: the model's", unit="tokens", ge=0)] = 0
    max_running: Annotated[int, option("requests in a batch at most; 0: the model's", ge=0)] = 0
    max_waiting: Annotated[int, option("requests that wait at most, others are refused; 0: the model's", ge=0)] = 0
    full_status: Annotated[Literal[429, 503], option("status with which it refuses them")] = 503
