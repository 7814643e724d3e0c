"""Settings of the router: every limit of the data plane has its number here.

Owns names, defaults and bounds (inherited flags and environment names kept). May not live here: what is done with them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from enginehouse.core.config.base import Config, option
from enginehouse.core.units import KIB, MAX_WORKERS, MIB

Policy = Literal["prefix", "round_robin", "least_load", "two_choices", "session", "random"]
AccessLogFormat = Literal["auto", "json", "text"]


class ModelConfig(Config, frozen=True):
    """`[router.models."id"]`: how one model is routed."""

    policy: Annotated[Policy | None, option("policy for this model; unset means the default policy")] = None
    aliases: Annotated[tuple[str, ...], option("other names under which clients may ask for this model")] = ()


class EngineAccess(Config, frozen=True):
    """`[[router.engines]]`: what the router needs to reach some engines. The first match by name counts."""

    services: Annotated[str, option("names of services, `*` matches any run of characters")]
    api_key_file: Annotated[str, option("file holding the key sent to these engines as a bearer token")] = ""
    api_key_env: Annotated[str, option("environment variable holding that key")] = ""
    ca_file: Annotated[str, option("PEM file of the authority that signed these engines' certificates")] = ""


class RouterConfig(Config, frozen=True):
    """The router: listening, discovery, health, choice, limits and times."""

    host: Annotated[str, option("address to listen on", group="listening")] = "0.0.0.0"
    port: Annotated[
        int, option("port to listen on; 0 lets the system choose", flag="--router-port", ge=0, le=65535)
    ] = 8080
    workers: Annotated[int, option("worker processes", ge=1, le=MAX_WORKERS // 2)] = 1
    registry_url: Annotated[
        str, option("registry to follow, with or without a trailing /services", group="discovery")
    ] = ""
    registry_token_file: Annotated[str, option("file holding the registry's bearer token")] = ""
    static_services: Annotated[str, option("JSON file of services that are always candidates; edits take effect")] = ""
    registry_sync_interval: Annotated[
        float, option("time between two polls of a registry without a feed", unit="s", gt=0)
    ] = 10.0
    service_removal_grace_period: Annotated[
        float, option("a service missing from the registry stays this long", unit="s", ge=0)
    ] = 60.0
    resolve_interval: Annotated[
        float, option("time between two look-ups of the engines' host names", unit="s", gt=0)
    ] = 30.0
    allow_networks: Annotated[
        tuple[str, ...], option("CIDR blocks an engine's address must be in; empty allows all but link-local")
    ] = ()
    engines: Annotated[tuple[EngineAccess, ...], option("keys and authorities for some engines", flag="-")] = ()
    health_interval: Annotated[
        float, option("time between two probes of a service", group="health", unit="s", gt=0)
    ] = 30.0
    health_timeout: Annotated[float, option("a probe slower than this has failed", unit="s", gt=0)] = 5.0
    max_errors: Annotated[int, option("consecutive failures before a service is ejected", ge=1)] = 3
    outlier_margin: Annotated[
        float,
        option(
            "a service whose share of failed requests is this much above the others' is ejected; 1: none", gt=0, le=1
        ),
    ] = 0.3
    ejection_time: Annotated[
        float,
        option("an ejected service gets no requests for this long, twice as long each further time", unit="s", gt=0),
    ] = 30.0
    max_ejection_time: Annotated[
        float, option("the longest ejection; after this long well, the next is a first one again", unit="s", gt=0)
    ] = 300.0
    max_ejected: Annotated[
        float, option("share of the services that may be ejected at once, but always one; 0 ejects none", ge=0, le=1)
    ] = 0.5
    slow_start: Annotated[
        float, option("a service that came back has its full part of the requests after this", unit="s", ge=0)
    ] = 10.0
    policy: Annotated[Policy, option("policy of models without one of their own", group="choice")] = "prefix"
    allow_policy_header: Annotated[
        bool, option("let a request name the policy that chooses for it, in the header x-enginehouse-policy")
    ] = False
    models: Annotated[dict[str, ModelConfig], option("per model: policy and aliases", flag="-")] = msgspec.field(
        default_factory=dict
    )
    retry_statuses: Annotated[
        tuple[Literal[429, 502, 503, 504], ...],
        option("statuses of an engine after which another service is tried, with a back-off"),
    ] = (429, 503)
    retry_timeouts: Annotated[
        bool, option("try another service when an engine sent nothing in time; it may be generating all the same")
    ] = False
    max_attempts: Annotated[int, option("attempts of one request, however many services there are", ge=1, le=16)] = 5
    retry_budget: Annotated[
        float, option("repetitions allowed, as a share of the requests (beside a reserve of 512 in 10 s)", ge=0, le=1)
    ] = 0.2
    failover: Annotated[
        bool, option("go on with a streamed answer on another service when its engine dies, where that is exact")
    ] = True
    failover_memory: Annotated[
        int, option("bytes of streams a worker keeps for that; streams beyond it are not continued", unit="bytes", ge=0)
    ] = 64 * MIB
    hedge_after: Annotated[
        float,
        option("try a second service when the first has sent nothing for this long; 0 never does", unit="s", ge=0),
    ] = 0.0
    hedge_budget: Annotated[
        float, option("such second attempts, as a share of the requests (beside a reserve of 10 in 10 s)", ge=0, le=1)
    ] = 0.05
    require_model: Annotated[bool, option("refuse a body without `model` instead of routing it to any service")] = False
    unknown_model_status: Annotated[Literal[503, 404], option("status for a model the house has never seen")] = 503
    cache_type_routing_threshold: Annotated[
        int,
        option(
            "message text above this prefers services of cache_type static",
            unit="bytes",
            env="CACHE_TYPE_ROUTING_THRESHOLD",
            ge=0,
        ),
    ] = 51200
    queue_size: Annotated[
        int,
        option(
            "requests for one model that wait in a worker while no service can take them; 0: none", group="queue", ge=0
        ),
    ] = 100
    queue_timeout: Annotated[float, option("a request that waited this long is refused", unit="s", gt=0)] = 30.0
    service_capacity: Annotated[
        int, option("requests at once for a service that states no `metadata.capacity`; 0: any number", ge=0)
    ] = 0
    learn_capacity: Annotated[
        bool, option("learn how many requests at once each service bears from those it refuses or lets time out")
    ] = False
    connect_timeout: Annotated[
        float, option("a connection to an engine not made by then has failed", group="times", unit="s", gt=0)
    ] = 5.0
    first_byte_timeout: Annotated[
        float, option("an engine that sent nothing by then has failed", unit="s", env="PROXY_TIMEOUT_SECONDS", gt=0)
    ] = 1800.0
    idle_timeout: Annotated[
        float, option("a stream silent for this long has failed", unit="s", env="PROXY_TIMEOUT_SECONDS", gt=0)
    ] = 1800.0
    head_timeout: Annotated[float, option("a client must have sent its head by then", unit="s", gt=0)] = 10.0
    body_timeout: Annotated[float, option("longest silence while a client sends its body", unit="s", gt=0)] = 30.0
    send_timeout: Annotated[float, option("a client that reads nothing for this long is cut", unit="s", gt=0)] = 600.0
    keepalive_timeout: Annotated[float, option("an idle client connection is closed after this", unit="s", gt=0)] = 75.0
    engine_keepalive_timeout: Annotated[
        float,
        option("an idle engine connection is closed after this (llama.cpp closes its own at 5 s)", unit="s", gt=0),
    ] = 4.0
    drain_timeout: Annotated[
        float, option("running requests may finish for this long when stopping", unit="s", ge=0)
    ] = 30.0
    reload_timeout: Annotated[
        float, option("running requests may finish for this long on the workers before a reload", unit="s", ge=0)
    ] = 3600.0
    max_head: Annotated[int, option("bytes of a request's or answer's head", group="limits", unit="bytes", ge=1024)] = (
        64 * KIB
    )
    max_body: Annotated[int, option("bytes of a request's body", unit="bytes", ge=1024)] = 64 * MIB
    body_budget: Annotated[int, option("bytes of all request bodies a worker holds at once", unit="bytes", ge=1024)] = (
        512 * MIB
    )
    max_connections: Annotated[
        int, option("client connections of a worker; fewer where file descriptors allow no more, three each", ge=1)
    ] = 16384
    max_idle_per_service: Annotated[int, option("idle engine connections a worker keeps per service", ge=0)] = 64
    strict_paths: Annotated[bool, option("proxy the known inference paths only", group="paths and headers")] = False
    open_paths: Annotated[tuple[str, ...], option("administrative paths of engines to open, e.g. /tokenize")] = ()
    verbatim_errors: Annotated[bool, option("pass error bodies of engines as they are")] = False
    encoded_bodies: Annotated[bool, option("pass request bodies with a Content-Encoding instead of answering 415")] = (
        False
    )
    trusted_proxies: Annotated[tuple[str, ...], option("CIDR blocks whose X-Forwarded-For is believed")] = (
        "127.0.0.0/8",
        "::1/128",
    )
    access_log: Annotated[
        str, option("file for one line a request, - for standard output; empty writes none", group="access log")
    ] = ""
    access_log_format: Annotated[
        AccessLogFormat, option("how lines look; auto is text on a terminal and JSON elsewhere")
    ] = "auto"
    access_log_buffer: Annotated[
        int,
        option(
            "lines that a worker holds while they cannot be written; beyond it they are dropped and counted",
            unit="bytes",
            ge=MIB,
        ),
    ] = 8 * MIB
    otlp_endpoint: Annotated[
        str,
        option(
            "OpenTelemetry collector to send a span of every request to, e.g. http://localhost:4318; empty sends none",
            group="traces",
        ),
    ] = ""
    otlp_headers_file: Annotated[
        str, option("file of header lines for that collector, `Name: value`, such as a key; never shown")
    ] = ""
    trace_sample: Annotated[
        float, option("share of the requests to trace; where the client sent a trace, its own word counts", ge=0, le=1)
    ] = 1.0
    admin_token_file: Annotated[
        str,
        option(
            "file holding the token with which the dashboard drains services and shows log lines; empty: it only shows",
            group="dashboard",
        ),
    ] = ""
