"""Who may write: the bearer token."""

from pathlib import Path

import aiohttp
import pytest

from enginehouse.core.config.base import ConfigError
from enginehouse.registry.main import read_token
from tests.registry.running import RegistryProcess, running, service

WRITES = [
    ("POST", "/services", service("other")),
    ("POST", "/services", service("e", port=1)),
    ("PUT", "/services/e", {"port": 1}),
    ("DELETE", "/services/e", None),
    ("POST", "/services/e/heartbeat", None),
]
READS = ["/health", "/services", "/services/e", "/services/e/health", "/stats", "/openapi.json", "/livez", "/readyz"]
WRONG = ["", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer SECRET", "Basic secret", "secret"]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_nobody_writes_without_the_token(method: str, path: str, body: object) -> None:
    """Defect: No authentication: anyone can overwrite a name, capture traffic."""
    async with running(token="secret") as url, aiohttp.ClientSession(url) as session:
        right = {"authorization": "Bearer secret"}
        async with session.post("/services", json=service("e"), headers=right) as answer:
            assert answer.status == 201
        for wrong in WRONG:
            headers = {"authorization": wrong} if wrong else {}
            async with session.request(method, path, json=body, headers=headers) as answer:
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                error = (await answer.json())["error"]
                assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
                assert "secret" not in error["message"]
        async with session.get("/services/e") as answer:
            assert (await answer.json())["port"] == 8000
        async with session.request(method, path, json=body, headers=right) as answer:
            assert answer.status in (200, 201)


@pytest.mark.parametrize("path", READS)
async def test_everybody_may_read(path: str) -> None:
    async with running(token="secret") as url, aiohttp.ClientSession(url) as session:
        right = {"authorization": "bearer secret"}
        async with session.post("/services", json=service("e"), headers=right) as answer:
            assert answer.status == 201
        async with session.get(path) as answer:
            assert answer.status == 200


def test_a_token_is_read_from_a_file_without_the_line_break(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert read_token(str(file)) == "secret"
    assert read_token("") == ""


@pytest.mark.parametrize("content", ["", "\n", "two words", "ä"])
def test_a_token_file_without_a_usable_token_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="token_file") as caught:
        read_token(str(file))
    assert not content.strip() or content not in str(caught.value)


def test_a_registry_without_its_token_file_says_so_and_ends(tmp_path: Path) -> None:
    with RegistryProcess(token_file=str(tmp_path / "missing")) as registry:
        assert registry.finish() == 2
        assert "missing" in registry.errors
        assert "Traceback" not in registry.errors
