"""The file of static services: its shapes, what cannot be used, and edits while the router runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from enginehouse.control.static_file import parse
from tests.control.rig import engine, house, static, until, write_static

ITEM: dict[str, Any] = {"name": "a", "host": "10.0.0.1", "port": 8000}


def parsed(data: object) -> list[tuple[str, str, int, int]]:
    return [(r.name, r.host, r.port, r.weight) for r in parse(json.dumps(data).encode()).records]


@pytest.mark.parametrize("data", [[ITEM], {"services": [ITEM]}, {"static_services": {"services": [ITEM]}}])
def test_all_three_shapes_of_the_file_are_read(data: object) -> None:
    assert parsed(data) == [("a", "10.0.0.1", 8000, 1)]


def test_an_item_may_have_weight_and_metadata() -> None:
    services = parse(json.dumps([ITEM | {"weight": 4, "metadata": {"models": ["m"], "zone": "x"}}]).encode())
    assert services.records[0].weight == 4
    assert services.records[0].metadata == {"models": ["m"], "zone": "x"}


def test_an_item_may_have_a_url_with_scheme_and_path_prefix_which_gives_host_and_port_where_they_are_missing() -> None:
    assert parsed([{"name": "a", "url": "https://gpu.example/engine/1"}]) == [("a", "gpu.example", 443, 1)]
    assert parsed([{"name": "a", "url": "http://[fd00::1]:8000"}]) == [("a", "fd00::1", 8000, 1)]
    assert parsed([ITEM | {"url": "https://10.0.0.1:9000/x"}]) == [("a", "10.0.0.1", 8000, 1)]


@pytest.mark.parametrize(
    "item",
    [
        ITEM | {"port": "8000"},
        ITEM | {"port": 0},
        ITEM | {"host": "169.254.169.254"},
        ITEM | {"host": "http://10.0.0.1"},
        ITEM | {"name": "a/b"},
        ITEM | {"name": "ä"},
        ITEM | {"weight": 0},
        ITEM | {"metadata": []},
        ITEM | {"url": "ftp://10.0.0.1"},
        ITEM | {"url": "http://[fd00::1"},
        ITEM | {"url": "http://elsewhere/"},
        {"host": "10.0.0.1", "port": 8000},
        {"name": "a", "url": 7},
        "http://10.0.0.1:8000",
        None,
    ],
)
def test_an_item_that_cannot_be_used_is_rejected_with_its_reason_and_the_others_are_used(item: object) -> None:
    services = parse(json.dumps([item, ITEM | {"name": "good"}]).encode())
    assert [record.name for record in services.records] == ["good"]
    assert len(services.rejected) == 1
    assert services.rejected[0].reason


def test_of_two_items_with_one_name_the_first_is_used() -> None:
    services = parse(json.dumps([ITEM, ITEM | {"port": 9000}]).encode())
    assert [record.port for record in services.records] == [8000]
    assert [item.name for item in services.rejected] == ["a"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'"x"', b"7", b"null", b"{}", b'{"services": {}}', b"[" * 100_000, b"\xff"],
    ids=lambda content: repr(content[:20]),
)
def test_a_file_of_another_shape_is_an_error_that_says_so(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not JSON|must be a list"):
        parse(content)


async def test_an_edit_takes_effect_without_a_restart(short_dir: Path, tmp_path: Path) -> None:
    async with engine(name="one") as one, engine(name="two") as two:
        file = tmp_path / "static.json"
        write_static(file, static("one", one.port))
        async with house(short_dir, static_services=str(file)) as running, running.worker() as worker:
            await worker.until_up("one")
            write_static(file, static("one", one.port, weight=7), static("two", two.port))
            fleet = await worker.until_up("one", "two")
            assert [service.weight for service in fleet.services] == [7, 1]
            write_static(file, static("two", two.port))
            await worker.until_up("two")


async def test_an_edit_that_cannot_be_parsed_keeps_the_last_good_one_and_is_reported(
    short_dir: Path, tmp_path: Path
) -> None:
    async with engine() as one:
        file = tmp_path / "static.json"
        write_static(file, static("one", one.port))
        async with house(short_dir, static_services=str(file)) as running, running.worker() as worker:
            await worker.until_up("one")
            file.write_text('[{"name": "one", ')

            async def is_reported() -> bool:
                return any(f"{file} is not JSON" in item["reason"] for item in await running.rejected())

            await until(is_reported, "the report")
            assert await running.healthy() == {"one"}
            file.unlink()

            async def is_missed() -> bool:
                return any("No such file" in item["reason"] for item in await running.rejected())

            await until(is_missed, "the report")
            assert await running.healthy() == {"one"}
            write_static(file, static("other", one.port))
            await worker.until_up("other")
            assert await running.rejected() == []
