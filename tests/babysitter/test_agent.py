"""What is registered."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.babysitter import agent
from enginehouse.babysitter.agent import Agent, babysitter_record, check_record, engine_record, own_address
from enginehouse.babysitter.registration import Errors
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError, from_mapping
from enginehouse.core.record import Record, parse_record
from enginehouse.core.units import MAX_RECORD

ERRORS = Errors(KeyError, ValueError, LookupError)


def config(**more: Any) -> BabysitterConfig:
    backend = {"type": "command", "command": "e"}
    return from_mapping(BabysitterConfig, {"name": "n", "port": 8000, "backend": backend} | more)


class Book:
    """A registry client that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.records: dict[str, Record] = {}

    async def register(self, record: Record, lease: str) -> str:
        self.calls.append(("register", record.name))
        self.records[record.name] = record
        return lease

    async def heartbeat(self, name: str, lease: str, status: str) -> None:
        self.calls.append(("heartbeat", name))

    async def unregister(self, name: str, lease: str) -> None:
        self.calls.append(("unregister", name))
        del self.records[name]


def test_the_babysitters_own_record_can_get_no_prompt() -> None:
    record = babysitter_record(config(), "host")
    assert (record.name, record.port, record.url) == ("n", 8001, "http://host:8001")
    assert record.metadata == {"type": "command", "babysitter": "enhanced"}


def test_the_engines_record_has_generated_metadata_and_the_configured_over_it() -> None:
    models = [{"id": "a", "object": "model"}, {"id": "b", "object": "model"}]
    record = engine_record(config(metadata={"x": 1, "models": ["mine"]}, weight=3), "::1", "running", models)
    assert (record.name, record.port, record.url, record.weight) == ("n-server", 8000, "http://[::1]:8000", 3)
    assert record.metadata == {
        "type": "openai-api",
        "parent_service": "n",
        "babysitter": "enhanced",
        "models": ["mine"],
        "models_list": models,
        "x": 1,
    }


def test_objects_too_large_for_a_record_are_cut_down_to_their_ids() -> None:
    models = [{"id": f"m{number}", "card": "x" * 2000} for number in range(200)]
    record = engine_record(config(), "h", "running", models)
    assert record.metadata["models"] == [f"m{number}" for number in range(200)]
    assert record.metadata["models_list"][0] == {"id": "m0", "object": "model"}


def test_ids_that_no_registry_takes_are_left_out() -> None:
    models = [{"id": "good", "x": 1}, {"id": "bad\n", "x": 1}, {"id": "y" * 600, "x": 1}]
    assert engine_record(config(), "h", "running", models).metadata["models"] == ["good"]


def test_more_ids_than_fit_are_cut_to_fewer() -> None:
    models = [{"id": f"{number:0500}", "x": 1} for number in range(1000)]
    assert len(models) * 500 > MAX_RECORD
    kept = engine_record(config(), "h", "running", models).metadata["models"]
    assert 100 < len(kept) < 1000


@given(st.lists(st.fixed_dictionaries({"id": st.text(min_size=1)}, optional={"x": st.text(), "object": st.none()})))
def test_whatever_an_engine_lists_the_record_is_valid(models: list[dict[str, Any]]) -> None:
    record = engine_record(config(), "h", "running", models)
    told = {field: getattr(record, field) for field in record.__struct_fields__}
    assert parse_record(told) == record


@pytest.mark.parametrize("metadata", [{"models": 3}, {"base_url": "ftp://x"}, {"capacity": 0}, {"type": 1}])
def test_metadata_that_no_registry_takes_is_found_before_the_start(metadata: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"metadata.{next(iter(metadata))}"):
        check_record(config(metadata=metadata))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "*"])
async def test_a_wildcard_is_replaced_by_the_address_that_reaches_the_registry(host: str) -> None:
    """Defect: `0.0.0.0` is registered as an address."""
    book = Book()
    made = Agent(config(host=host, registry_url="http://127.0.0.1:1"), book, ERRORS, lambda _: None)
    made.publish("running", [{"id": "m"}])  # the engine may be ready before the address is known
    await made.start()
    await made.close()
    assert made.address == "127.0.0.1"
    assert sorted(call for call in book.calls if call[0] == "register") == [("register", "n"), ("register", "n-server")]


async def test_the_own_address_is_found_for_names_ports_and_ipv6() -> None:
    assert await own_address("http://127.0.0.1") == "127.0.0.1"
    assert await own_address("https://[::1]:8081/services") == "::1"
    assert await own_address("http://localhost:8081") in ("127.0.0.1", "::1")
    with pytest.raises(socket.gaierror):
        await own_address("http://no-such-host.invalid:1")


async def test_an_address_that_cannot_be_found_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def at_last(url: str) -> str:
        tried.append(url)
        if len(tried) < 3:
            raise OSError("network is unreachable")
        return "10.0.0.7"

    monkeypatch.setattr(agent, "own_address", at_last)
    monkeypatch.setattr(agent, "ADDRESS_PAUSE", 0.01)
    lines: list[str] = []
    book = Book()
    made = Agent(config(host="0.0.0.0", registry_url="http://r"), book, ERRORS, lines.append)
    await made.start()
    await made.close()
    assert (made.address, len(tried)) == ("10.0.0.7", 3)
    assert "or give the host to register" in lines[0]


async def test_without_a_registry_nothing_is_called_and_that_is_said() -> None:
    lines: list[str] = []
    made = Agent(config(host="0.0.0.0"), None, ERRORS, lines.append)
    await made.start()
    made.publish("running", [])
    made.withdraw()
    await made.close()
    assert made.address == "localhost"
    assert "give registry_url" in lines[0]


async def test_at_the_end_both_records_are_taken_back() -> None:
    book = Book()
    made = Agent(config(registry_url="http://r"), book, ERRORS, lambda _: None)
    await made.start()
    made.publish("running", [])
    async with asyncio.timeout(20):
        while len(book.records) < 2:  # noqa: ASYNC110 (the book is a plain one)
            await asyncio.sleep(0.002)
    await made.close()
    assert book.records == {}
