"""What is registered for one babysitter and its engine.

Owns the two records and the address they carry. May not live here: calls and their repetition (`registration`,
`machines.lease`), whether the engine is ready (`machines.child`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from enginehouse.babysitter.recipes import WILDCARDS
from enginehouse.babysitter.registration import Errors, Registration, RegistryClient
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError
from enginehouse.core.record import INFERENCE, Record, RecordError, default_url, parse_record

#: Seconds between two attempts to find out our own address.
ADDRESS_PAUSE = 2.0


class Agent:
    """Both registrations of one babysitter. Without a registry it only knows the address."""

    def __init__(
        self, config: BabysitterConfig, client: RegistryClient | None, errors: Errors, say: Callable[[str], None]
    ) -> None:
        self.address = "" if config.host in WILDCARDS else config.host
        """What is registered as host, never a wildcard; "" while it is not known."""
        self._config = config
        self._say = say
        self._wanted: tuple[str, list[dict[str, Any]]] | None = None
        interval = config.babysitter.heartbeat_interval
        self._registrations = [Registration(client, errors, interval, say) for _ in range(2)] if client else []

    async def start(self) -> None:
        """Register the babysitter. Returns when its address is known, which may take as long as the network does."""
        if not self._registrations:
            self._say("registered nowhere; give registry_url if a router shall find the engine")
            self.address = self.address or "localhost"
            return
        while not self.address:
            try:
                self.address = await own_address(self._config.registry_url)
            except OSError as error:
                self._say(f"cannot find out the own address ({error}); trying again, or give the host to register")
                await asyncio.sleep(ADDRESS_PAUSE)
        self._registrations[0].publish(babysitter_record(self._config, self.address))
        if self._wanted:
            self.publish(*self._wanted)

    def publish(self, status: str, models: list[dict[str, Any]]) -> None:
        """Register the engine with these models, or change what is registered."""
        self._wanted = status, models
        if self._registrations and self.address:
            self._registrations[1].publish(engine_record(self._config, self.address, status, models))

    def withdraw(self) -> None:
        """Take the engine's registration back."""
        self._wanted = None
        if self._registrations:
            self._registrations[1].withdraw()

    async def close(self) -> None:
        """Take both registrations back, within a bounded time."""
        await asyncio.gather(*(registration.close() for registration in self._registrations))


def babysitter_record(config: BabysitterConfig, host: str) -> Record:
    """What the babysitter registers for itself. Its type keeps prompts away from it."""
    metadata = {"type": config.backend.type, "babysitter": "enhanced"}
    return _record(config.name, host, config.port + 1, "running", metadata)


def engine_name(config: BabysitterConfig) -> str:
    """Under which the engine is registered."""
    return f"{config.name}-server"


def engine_record(config: BabysitterConfig, host: str, status: str, models: list[dict[str, Any]]) -> Record:
    """What is registered for the engine: generated metadata, `[metadata]` of the configuration laid over it.

    A list that the registry would refuse is cut down: first to ids, then to those ids that are valid, then to fewer.
    Raises `RecordError` where even a record without models would be refused.
    """
    ids = list(dict.fromkeys(str(model["id"]) for model in models))
    while True:
        generated = {
            "type": INFERENCE,
            "parent_service": config.name,
            "babysitter": "enhanced",
            "models": ids,
            "models_list": models,
        }
        metadata = generated | config.metadata
        try:
            return _record(engine_name(config), host, config.port, status, metadata, config.weight)
        except RecordError:
            if not ids:
                raise
        if any(model.keys() - {"id", "object"} for model in models):
            ids = [name for name in ids if _is_valid(name)]
        else:
            ids = ids[: len(ids) // 2]
        models = [{"id": name, "object": "model"} for name in ids]


def check_record(config: BabysitterConfig) -> None:
    """Raises `ConfigError` where the registry would refuse what this configuration registers."""
    host = "localhost" if config.host in WILDCARDS else config.host
    try:
        engine_record(config, host, "running", [])
    except RecordError as error:
        raise ConfigError(error.message, key=error.field) from None


def _record(name: str, host: str, port: int, status: str, metadata: dict[str, Any], weight: int = 1) -> Record:
    url = default_url(host, port)
    told = {"name": name, "host": host, "hostname": host, "port": port, "url": url, "status": status}
    return parse_record(told | {"weight": weight, "metadata": metadata})


def _is_valid(model: str) -> bool:
    try:
        _record("x", "localhost", 1, "running", {"models": [model]})
    except RecordError:
        return False
    return True


async def own_address(registry_url: str) -> str:
    """The address from which this machine reaches the registry. Nothing is sent. Raises `OSError`."""
    parts = urlsplit(registry_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)
    trouble = OSError(f"{parts.hostname} has no address")
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(address)
                return str(probe.getsockname()[0])
            except OSError as error:
                trouble = error
    raise trouble
