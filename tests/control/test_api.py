"""The router's own HTTP interface, from outside: exact shapes, methods, errors."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from enginehouse.core.config.router import ModelConfig
from tests.contract.foreign_registry import ForeignRegistry
from tests.control.rig import House, engine, house, models, scripted, static, until, write_static
from tests.registry.running import service

OWN_PATHS = ["/health", "/status", "/services", "/stats", "/models", "/v1/models", "/v1/models/x"]
SERVICE_KEYS = {
    "name", "host", "port", "url", "babysitter_url", "healthy", "request_count", "error_count", "response_time",
    "weight", "models", "metadata", "server_error_count", "rejection_count", "ejection_count",
}  # fmt: skip


async def bare(directory: Path, tmp_path: Path, **settings: Any) -> House:
    """Control with an empty static file."""
    running = House(directory, {"static_services": write_static(tmp_path / "s.json")} | settings, lambda _: ("", ""))
    running.start()
    return running


async def test_health_and_status_say_how_many_services_are_healthy(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one, scripted(health=(503, {})) as two:
        file = write_static(tmp_path / "s.json", static("one", one.port), static("two", two.port))
        async with house(short_dir, static_services=file) as running:
            await running.until_healthy("one")
            for path, status in (("/health", "healthy"), ("/status", "running")):
                code, answer = await running.get(path)
                assert code == 200
                assert datetime.fromisoformat(answer.pop("timestamp")).tzinfo is not None
                assert answer == {
                    "status": status,
                    "router": "running",
                    "healthy_services": "1/2",
                    "registry_url": None,
                    "message": "1 of 2 services healthy",
                }


async def test_without_a_healthy_service_health_is_still_200_and_says_so(short_dir: Path, tmp_path: Path) -> None:
    running = await bare(short_dir, tmp_path, registry_url="http://user:secret@127.0.0.1:1/services")
    code, answer = await running.get("/health")
    assert code == 200
    assert answer["message"] == "No healthy services available"
    assert answer["healthy_services"] == "0/0"
    assert answer["registry_url"] == "http://127.0.0.1:1/services"
    assert "secret" not in json.dumps([await running.get(path) for path in OWN_PATHS])
    await running.close()


async def test_services_and_stats_have_the_inherited_shape(short_dir: Path) -> None:
    metadata = {"type": "openai-api", "babysitter": "enhanced", "parent_service": "a", "models": ["m"], "zone": 7}
    async with engine() as one:
        with ForeignRegistry() as registry:
            registry.register(service("a-server", one.port, metadata=metadata))
            async with house(short_dir, registry_url=registry.url) as running:
                await running.until_healthy("a-server")
                _, services = await running.get("/services")
                assert services == {
                    "services": [
                        {
                            "name": "a-server",
                            "host": "127.0.0.1",
                            "port": one.port,
                            "url": f"http://127.0.0.1:{one.port}",
                            "babysitter_url": f"http://127.0.0.1:{one.port + 1}",
                            "healthy": True,
                            "request_count": 0,
                            "error_count": 0,
                            "server_error_count": 0,
                            "rejection_count": 0,
                            "ejection_count": 0,
                            "response_time": 0.0,
                            "weight": 1,
                            "models": ["m"],
                            "metadata": metadata,
                            "status": "running",
                            "in_flight": 0,
                            "capacity": None,
                            "kv_tokens": None,
                            "drained": False,
                        }
                    ],
                    "total": 1,
                    "registry_url": registry.url,
                    "rejected": [],
                }
                assert services["services"][0].keys() >= SERVICE_KEYS
                _, stats = await running.get("/stats")
                assert stats["total_services"] == stats["healthy_services"] == 1
                assert stats["services"] == services["services"]
                assert stats["registry_url"] == registry.url
                assert stats["details"]["a-server"]["in_flight"] == 0
                assert stats["waiting"] == 0


async def test_v1_models_is_not_aggregated__models_of_all_healthy_services_are_listed_sorted_each_once(
    short_dir: Path, tmp_path: Path
) -> None:
    """Defect: `/v1/models` is not aggregated."""
    listed = {"models_list": [{"id": "org/x", "owned_by": "b"}, {"id": "org/x", "owned_by": "again"}]}
    async with (
        scripted(**{"health": (200, {}), "v1/models": models("org/x", "z")}) as a,
        scripted(health=(200, {})) as b,
        scripted(health=(503, {})) as ill,
    ):
        file = write_static(
            tmp_path / "s.json",
            static("b", b.port, metadata=listed),
            static("c", b.port, metadata={"models": ["bare"]}),
            static("a", a.port),
            static("ill", ill.port, metadata={"models": ["gone"]}),
        )
        async with house(short_dir, static_services=file) as running:
            await running.until_healthy("a", "b", "c")
            _, answer = await running.get("/v1/models")
            assert answer == {
                "object": "list",
                "data": [{"id": "bare"}, {"id": "org/x", "object": "model"}, {"id": "z", "object": "model"}],
            }
            assert (await running.get("/models"))[1] == answer


async def test_one_model_is_found_by_its_id_with_slashes_and_by_its_alias(short_dir: Path, tmp_path: Path) -> None:
    async with engine(models=("org/big:7b",)) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        aliases = {"org/big:7b": ModelConfig(aliases=("big",))}
        async with house(short_dir, static_services=file, models=aliases) as running:
            await running.until_healthy("one")
            for path in ("org/big:7b", "org%2Fbig:7b", "org%2Fbig%3A7b", "big"):
                code, model = await running.get(f"/v1/models/{path}")
                assert (code, model["id"]) == (200, "org/big:7b")


async def test_an_unknown_model_is_404_in_openais_shape(short_dir: Path, tmp_path: Path) -> None:
    async with engine(models=("here",)) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file) as running:
            await running.until_healthy("one")
            async with running.session.get("http://router/v1/models/org/nowhere") as response:
                assert response.status == 404
                assert response.headers["x-should-retry"] == "false"
                error = (await response.json())["error"]
            assert (error["code"], error["type"], error["param"]) == (
                "model_not_found",
                "invalid_request_error",
                "model",
            )
            assert "org/nowhere" in error["message"]
            assert "here" in error["message"]


async def test_a_known_model_that_nobody_serves_now_is_503_with_retry_after(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(503, {})) as ill:
        file = write_static(tmp_path / "s.json", static("ill", ill.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=file) as running:

            async def is_known() -> bool:
                return bool((await running.get("/stats"))[1]["details"]["ill"]["state"] == "down")

            await until(is_known, "the service")
            async with running.session.get("http://router/v1/models/m") as response:
                assert response.status == 503
                assert response.headers["retry-after"] == "5"
                assert (await response.json())["error"]["code"] == "server_is_overloaded"


async def test_before_the_first_sync_an_unknown_model_may_be_asked_for_again(short_dir: Path) -> None:
    async with (
        house(short_dir, registry_url="http://127.0.0.1:1") as running,
        running.session.get("http://router/v1/models/m") as response,
    ):
        assert response.status == 503
        assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_routers_own_paths_are_read_only(short_dir: Path, tmp_path: Path, method: str) -> None:
    running = await bare(short_dir, tmp_path)
    for path in OWN_PATHS:
        async with running.session.request(method, f"http://router{path}") as response:
            assert response.status == 405
            assert "GET" in response.headers["allow"]
            assert (await response.json())["error"]["code"] == "method_not_allowed"
    await running.close()


async def test_head_is_answered_like_get_without_a_body(short_dir: Path, tmp_path: Path) -> None:
    running = await bare(short_dir, tmp_path)
    async with running.session.head("http://router/health") as response:
        assert response.status == 200
        assert int(response.headers["content-length"]) > 0
        assert await response.read() == b""
    await running.close()


@pytest.mark.parametrize("path", ["/", "/nothing", "/health/", "/v1/models/", "/services/one", "/docs"])
async def test_other_paths_are_404_in_openais_shape(short_dir: Path, tmp_path: Path, path: str) -> None:
    running = await bare(short_dir, tmp_path)
    code, answer = await running.get(path)
    assert code == 404
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    await running.close()


async def test_keys_of_engines_are_never_shown(short_dir: Path, tmp_path: Path) -> None:
    async with engine(api_key="sesame", models=("m",)) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, access=lambda _: ("sesame", ""), static_services=file) as running:
            async with running.worker() as worker:
                fleet = await worker.until_up("one")
            assert fleet.services[0].api_key == "sesame"
            for path in OWN_PATHS:
                assert "sesame" not in json.dumps(await running.get(path))
