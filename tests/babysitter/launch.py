"""A babysitter as a process of its own, for tests: the only argument is a file with the configuration as JSON.

Owns the gluing together of babysitter and registry client. May not live here: anything a test asserts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import aiohttp
import msgspec
import uvloop

from enginehouse.babysitter.main import run
from enginehouse.babysitter.registration import Answer
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.record import Record
from enginehouse.machines import lease
from enginehouse.registry import client as registry


class Calls:
    """The registry's client as the babysitter's protocol has it."""

    def __init__(self, client: registry.RegistryClient) -> None:
        self._client = client

    async def register(self, record: Record, token: str) -> Answer:
        try:
            await self._client.register(record, token)
        except registry.RegistryError as error:
            return answer(error)
        return lease.Accepted()

    async def heartbeat(self, name: str, token: str, status: str) -> Answer:
        try:
            await self._client.heartbeat(name, token, status)
        except registry.RegistryError as error:
            return answer(error)
        return lease.Accepted()

    async def release(self, name: str, token: str) -> Answer:
        try:
            await self._client.unregister(name, token)
        except registry.RegistryError as error:
            return answer(error)
        return lease.Accepted()


def answer(error: registry.RegistryError) -> Answer:
    match error:
        case registry.Unknown():
            return lease.Unknown()
        case registry.Conflict():
            return lease.Superseded()
    return lease.Failed(str(error))


def main(file: str) -> int:
    config = msgspec.json.decode(Path(file).read_bytes(), type=BabysitterConfig)

    def make_client(session: aiohttp.ClientSession) -> Calls:
        return Calls(registry.RegistryClient(config.registry_url, "", session))

    return uvloop.run(run(config, make_client, os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
