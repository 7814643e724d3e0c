"""Settings of the registry. Owns their names, defaults and bounds (CONTRACTS: inherited flags keep their names)."""

from __future__ import annotations

from typing import Annotated

from enginehouse.core.config.base import Config, option


class RegistryConfig(Config, frozen=True):
    """The registry: where it listens, how it judges services, where it keeps its journal."""

    host: Annotated[str, option("address to listen on", group="listening")] = "0.0.0.0"
    port: Annotated[int, option("port to listen on; 0 lets the system choose", ge=0, le=65535)] = 8081
    health_interval: Annotated[
        float, option("time between two probes of a service", group="health", unit="s", gt=0)
    ] = 30.0
    health_timeout: Annotated[float, option("a probe slower than this has failed", unit="s", gt=0)] = 5.0
    cleanup_interval: Annotated[float, option("time between two searches for expired services", unit="s", gt=0)] = 60.0
    stale_after: Annotated[float, option("healthy means a heartbeat younger than this", unit="s", gt=0)] = 120.0
    remove_after: Annotated[float, option("a service silent for this long is removed", unit="s", gt=0)] = 300.0
    journal: Annotated[
        str, option("file of the journal (SQLite); empty keeps the services in memory only", group="store")
    ] = "enginehouse-registry.db"
    token_file: Annotated[
        str, option("file holding the bearer token that writers must send", group="access and limits")
    ] = ""
    allow_networks: Annotated[
        tuple[str, ...], option("CIDR blocks a registered host must be in; empty allows all but link-local")
    ] = ()
    max_watchers: Annotated[int, option("clients that may follow the feed of changes at once", ge=1)] = 1024
