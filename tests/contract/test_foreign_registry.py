"""A registry that speaks only the inherited contract works with our router, by polling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.foreign_registry import ForeignRegistry
from tests.contract.router import Router, engines, running, until
from tests.e2e.engines import SimProcess
from tests.ports import Ports
from tests.registry.running import service

#: Seconds between two polls.
POLLS = 0.2


def engine_record(engine: SimProcess, **fields: Any) -> dict[str, Any]:
    """What an inherited babysitter registers for its engine."""
    metadata = {"type": "openai-api", "parent_service": "sitter", "babysitter": "enhanced", "models": ["m"]}
    return service(f"{engine.name}-server", engine.port, metadata=metadata | fields)


@pytest.fixture
def foreign(ports: Ports) -> Iterator[ForeignRegistry]:
    with ForeignRegistry(ports.one()) as registry:
        yield registry


def following(directory: Path, registry: ForeignRegistry, **settings: Any) -> Any:
    return running(directory, registry_url=registry.url, registry_sync_interval=POLLS, **settings)


def test_services_of_a_foreign_registry_are_found_change_and_leave(tmp_path: Path, foreign: ForeignRegistry) -> None:
    with engines(a={}, b={}) as sims, following(tmp_path, foreign, service_removal_grace_period=0.5) as router:
        until(router.ready, "workers with a fleet")
        foreign.register(engine_record(sims["a"]))
        until(lambda: router.chat().service == "a-server", "an answer of the first")
        foreign.register(engine_record(sims["b"], models=["other"], cache_type="paged"))
        until(lambda: router.chat("other").service == "b-server", "an answer of the second")
        told = router.service("b-server")
        assert (told["weight"], told["models"], told["metadata"]["cache_type"]) == (1, ["other"], "paged")
        assert told["babysitter_url"] == f"http://127.0.0.1:{sims['b'].port + 1}"
        foreign.register(engine_record(sims["b"], models=["renamed"]))
        until(lambda: router.chat("renamed").service == "b-server", "the changed model")
        del foreign.services["a-server"]
        until(lambda: {"a-server"}.isdisjoint(names(router)), "its grace period is over")
        until(lambda: router.chat("m").status == 503, "nobody has its model any more")


def names(router: Router) -> list[str]:
    return [item["name"] for item in router.ask("GET", "/services").json["services"]]


def test_a_service_missing_from_a_foreign_registry_stays_for_the_grace_period(
    tmp_path: Path, foreign: ForeignRegistry
) -> None:
    with engines(a={}) as sims, following(tmp_path, foreign, service_removal_grace_period=3600) as router:
        foreign.register(engine_record(sims["a"]))
        router.until_healthy("a-server")
        del foreign.services["a-server"]
        polls = len(foreign.calls)
        until(lambda: len(foreign.calls) >= polls + 4, "some more polls")
        assert router.chat().service == "a-server"
        until(lambda: router.ask("GET", "/stats").json["details"]["a-server"]["missing_for"], "it is known as missing")


def test_a_foreign_registry_that_is_gone_for_a_while_takes_no_service_with_it(
    tmp_path: Path, foreign: ForeignRegistry
) -> None:
    with engines(a={}, b={}) as sims, following(tmp_path, foreign) as router:
        foreign.register(engine_record(sims["a"]))
        router.until_healthy("a-server")
        foreign.close()
        until(lambda: router.ask("GET", "/services").json["rejected"], "the registry's absence is told")
        assert router.healthy() == {"a-server"}
        assert router.chat().service == "a-server"
        with ForeignRegistry(foreign.port) as again:  # it has forgotten everything, as the inherited one did
            again.register(engine_record(sims["b"]))
            until(lambda: "b-server" in router.healthy(), "the new service")
            assert "a-server" in router.healthy(), "the old one has its grace period"
            until(lambda: {router.chat().service for _ in range(4)} == {"a-server", "b-server"}, "answers of both")


def test_what_a_foreign_registry_says_of_health_neither_takes_a_service_out_nor_puts_one_in(
    tmp_path: Path, foreign: ForeignRegistry
) -> None:
    """Defect: Health flaps: the sync asks for healthy services only.

    So every 10 s it set bad ones back to healthy.
    """
    with engines(a={}, loads={"ready_after": 3600}) as sims, following(tmp_path, foreign) as router:
        foreign.register(engine_record(sims["a"]))
        foreign.services["a-server"] |= {"is_healthy": False, "health_status": "unhealthy"}
        foreign.register(engine_record(sims["loads"]))
        foreign.services["loads-server"] |= {"is_healthy": True, "health_status": "healthy"}
        router.until_healthy("a-server")
        until(lambda: sims["loads"].stats()["probes"], "a look at the other one")
        polls = len(foreign.calls)
        verdicts = set()
        while len(foreign.calls) < polls + 5:
            verdicts.add(frozenset(router.healthy()))
            assert router.chat().service == "a-server"
        assert verdicts == {frozenset({"a-server"})}


def test_only_the_inherited_contract_is_asked_of_a_foreign_registry_once_it_is_known_to_be_one(
    tmp_path: Path, foreign: ForeignRegistry
) -> None:
    with engines(a={}) as sims, following(tmp_path, foreign) as router:
        foreign.register(engine_record(sims["a"]))
        router.until_healthy("a-server")
        until(lambda: len(foreign.calls) > 5, "some polls")
        assert set(foreign.calls[2:]) == {"GET /services"}


def test_bad_records_of_a_foreign_registry_are_told_and_stop_nothing(tmp_path: Path, foreign: ForeignRegistry) -> None:
    """The router validates again: no redirects, no link-local addresses, names and sizes as in our own registry."""
    with engines(a={}) as sims, following(tmp_path, foreign) as router:
        foreign.register(engine_record(sims["a"]))
        for name, host in (("metadata-service", "169.254.169.254"), ("a/b", "127.0.0.1"), ("x" * 129, "127.0.0.1")):
            foreign.register(service(name, sims["a"].port, host=host, metadata={"type": "openai-api"}))
        foreign.services["no record"] = {"name": 5}
        elsewhere = service("elsewhere", sims["a"].port, url="http://127.0.0.2:80", metadata={"type": "openai-api"})
        foreign.register(elsewhere)
        router.until_healthy("a-server")
        rejected = {item["name"]: item["reason"] for item in router.ask("GET", "/services").json["rejected"]}
        assert len(rejected) == 5
        assert "host" in rejected["metadata-service"]
        assert "url" in rejected["elsewhere"]
        assert names(router) == ["a-server"]
