"""`enginehouse logs`: an engine's output, from the babysitter's file on its own machine, with a token from anywhere."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.babysitter.house import ENGINE
from tests.cli.programs import Running, run, until
from tests.contract.router import Router, running
from tests.ports import Ports

TOKEN = "a-token-of-sixteen-or-more"
SECRET = "sk-of-the-environment"


class House:
    """A babysitter that keeps an engine's output, and a router that knows it."""

    def __init__(self, router: Router, babysitter: Running, port: int, token_file: Path) -> None:
        self.router = router
        self.babysitter = babysitter
        self.port = port
        self.token_file = token_file

    def logs(self, *more: str, name: str = "chat") -> Any:
        return run("logs", name, "--router", self.router.url, *more)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    ports = Ports()
    port = ports.pair()
    token = directory / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(stat.S_IRUSR)
    engine = json.dumps({"port": port, "words": f"loading\x1b[2J {SECRET} with $PYTHONUNBUFFERED", "journal": ""})
    config = f"""
name = "chat"
port = {port}
bind = "127.0.0.1"
admin_token_file = "{token}"
[backend]
type = "command"
command = "{{python}} {ENGINE}"
args = ['{engine}']
[backend.env]
KEY = "{SECRET}"
PYTHONUNBUFFERED = "1"
[babysitter]
restart_delay = 0.1
log_dir = "{directory / "logs"}"
"""
    (directory / "chat.toml").write_text(config)
    babysitter = Running("babysitter", "--config-file", str(directory / "chat.toml"), cwd=directory)
    item = {
        "name": "chat-server",
        "host": "127.0.0.1",
        "port": port,
        "metadata": {"babysitter": "enhanced", "models": ["m"]},
    }
    try:
        babysitter.says("serves m")
        alone = {"name": "alone", "host": "127.0.0.1", "port": 9}
        with running(directory / "router", [item, alone], admin_token_file=token) as router:
            until("a healthy engine", lambda: router.healthy() == {"chat-server"})
            yield House(router, babysitter, port, token)
    finally:
        babysitter.close()
        ports.release()


def test_on_the_engines_machine_its_owner_reads_the_file(house: House) -> None:
    done = house.logs()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("--- enginehouse: chat started ")
    assert f"loading {SECRET} with 1" in done.stdout, "the owner's own file, and nothing that moves the cursor"
    assert house.logs(name="chat-server").stdout == done.stdout


def test_with_the_token_lines_come_over_http_without_what_is_secret(house: House) -> None:
    done = house.logs("--token-file", str(house.token_file), "-n", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "loading *** with 1" in done.stdout
    assert SECRET not in done.stdout


def test_another_token_is_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another-token-than-that")
    done = house.logs("--token-file", str(tmp_path / "other"))
    assert done.returncode == 1
    assert "refuses: The output is for who has the token" in done.stderr


def test_a_file_that_cannot_be_read_is_named_with_the_way_out(house: House) -> None:
    log = house.router.log_file.parent.parent / "logs" / "chat.log"
    away = log.rename(log.with_suffix(".away"))
    try:
        done = house.logs()
    finally:
        away.rename(log)
    assert done.returncode == 1
    assert str(log) in done.stderr
    assert "give the file with its token: --token-file FILE" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("alone", "has no babysitter"),
        ("chat-sever", "did you mean chat-server?"),
        ("x", "Its services: alone, chat-server"),
    ],
)
def test_what_has_no_output_is_said_with_what_there_is(house: House, name: str, words: str) -> None:
    done = house.logs(name=name)
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize("with_token", [False, True], ids=["the file", "HTTP"])
def test_following_shows_what_comes_over_a_restart_of_the_engine(
    house: House, tmp_path: Path, with_token: bool
) -> None:
    token = ["--token-file", str(house.token_file)] if with_token else []
    follows = Running("logs", "chat", "-f", "-n", "1", "--router", house.router.url, *token, cwd=tmp_path)
    try:
        follows.line()
        kill_engine(house)
        assert follows.says("--- enginehouse: chat started ")
        assert follows.says("loading")
    finally:
        follows.close()
        until("a healthy engine", lambda: house.router.healthy() == {"chat-server"})


def kill_engine(house: House) -> None:
    (engine,) = [process for process in house.babysitter.descendants() if str(ENGINE) in process.cmdline()[1:2]]
    engine.kill()


def test_the_page_of_the_service_has_the_lines_with_the_token_only(house: House) -> None:
    path = "/dashboard/service/chat-server"
    told = house.router.ask("GET", path).json
    assert told["log"] is None
    assert told["babysitter"]["state"] == "healthy"
    assert told["babysitter"]["restart_count"] >= 0
    told = house.router.ask("GET", path, headers={"authorization": f"Bearer {TOKEN}"}).json
    assert any("loading" in line for line in told["log"])
    assert SECRET not in json.dumps(told)
    foreign = {"authorization": f"Bearer {TOKEN}", "sec-fetch-site": "cross-site"}
    assert house.router.ask("GET", path, headers=foreign).json["log"] is None
