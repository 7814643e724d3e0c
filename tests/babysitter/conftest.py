"""Fixtures of the babysitter's tests: a registry, and babysitters as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.babysitter.house import Registry, Sitter, engine_args, sim_args, sitter
from tests.ports import Ports

Start = Callable[..., AbstractAsyncContextManager[Sitter]]


@pytest.fixture
async def registry(ports: Ports) -> AsyncIterator[Registry]:
    """A running registry without a journal."""
    made = Registry(ports.one())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def start(tmp_path: Path, ports: Ports) -> Start:
    """`start(registry, name="demo", babysitter={…}, **options of engine.py)`: a babysitter and its engine."""

    def begin(
        registry: Registry | None = None,
        name: str = "demo",
        babysitter: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
        backend: dict[str, Any] | None = None,
        sim: dict[str, Any] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[Sitter]:
        port = ports.pair()
        options = {"journal": str(tmp_path / "journal")} | options
        engine = engine_args(port, **options) if sim is None else sim_args(port, **sim)
        config = {"name": name, "port": port, "backend": engine | (backend or {})}
        config |= {"registry_url": registry.url if registry else "", "babysitter": babysitter or {}}
        return sitter(tmp_path, config | (more or {}))

    return begin
