"""A router in front of four simulated engines, one set for each file of tests that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.router import Router, Sims, engines, running, static


@pytest.fixture(scope="module")
def sims() -> Iterator[Sims]:
    """Engines by name."""
    with engines(
        a={"models": ["m", "x", "only-a"]}, b={"models": ["m", "x"]}, c={"models": ["m"]}, other={"models": ["other"]}
    ) as started:
        yield started


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, sims: Sims) -> Iterator[Router]:
    """A router that knows them from a static file."""
    with running(tmp_path_factory.mktemp("router"), [static(sim) for sim in sims.values()]) as running_router:
        running_router.until_healthy(*sims)
        yield running_router
