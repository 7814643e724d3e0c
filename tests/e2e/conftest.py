"""Houses and single parts for tests, which end with the test and leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e.house import House, Table
from tests.e2e.program import Program
from tests.ports import Ports


class StartHouse(Protocol):
    """Starts a house of these engines; `router` are settings of the router. Returns at once, see `House.ready`."""

    def __call__(self, *engines: Table, **router: Any) -> House:
        """See the class."""


class StartPart(Protocol):
    """Starts one part: `registry`, `router`, `babysitter` or another command, with its flags."""

    def __call__(self, *arguments: str) -> Program:
        """See the class."""


@pytest.fixture
async def start_house(ports: Ports, tmp_path: Path) -> AsyncIterator[StartHouse]:
    """Houses that are ended in order with the test."""
    started: list[House] = []

    def start(*engines: Table, **router: Any) -> House:
        folder = tmp_path / f"house-{len(started)}"
        folder.mkdir()
        started.append(House(list(engines), ports, folder, **router))
        return started[-1]

    yield start
    for house in started:
        await house.close()


@pytest.fixture
async def start_part(tmp_path: Path) -> AsyncIterator[StartPart]:
    """Parts that are ended in order with the test."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        started.append(Program(*arguments, folder=tmp_path))
        return started[-1]

    yield start
    for part in reversed(started):
        await part.close()
