"""`enginehouse reload` where there is nobody to ask. With routers: see `tests/e2e/test_rolling.py`."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path

import pytest

from enginehouse.cli.reload import reload
from enginehouse.supervisor.door import DIRECTORY
from tests.ports import Ports


def test_where_no_router_runs_it_says_so_and_what_else_could_be_done(
    ports: Ports, capsys: pytest.CaptureFixture[str]
) -> None:
    port = ports.one()
    assert reload(["--router", f"127.0.0.1:{port}"]) == 1
    told = capsys.readouterr().err
    assert f"no router on port {port}" in told
    assert "SIGHUP" in told


def test_what_a_killed_router_left_is_passed_over(ports: Ports, capsys: pytest.CaptureFixture[str]) -> None:
    port = ports.one()
    with tempfile.TemporaryDirectory(prefix=DIRECTORY) as folder:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
            gone.bind(f"{folder}/door-{port}")
        assert reload(["--router", f"http://localhost:{port}"]) == 1
    assert f"no router on port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("last", "status", "told"), [(b'{"done": true}\n', 0, ""), (b'{"done": false}\n', 1, ""), (b"", 1, "see its log")]
)
def test_what_the_router_says_is_passed_on_and_its_end_is_the_exit_status(
    ports: Ports, capsys: pytest.CaptureFixture[str], last: bytes, status: int, told: str
) -> None:
    port = ports.one()
    with tempfile.TemporaryDirectory(prefix=DIRECTORY) as folder, socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{folder}/door-{port}")
        door.listen()

        def answer() -> None:
            line, _ = door.accept()
            with line:
                assert line.recv(100) == b"reload\n"
                line.sendall(b'{"said": "control was replaced"}\n' + last)

        router = threading.Thread(target=answer)
        router.start()
        assert reload(["--router", f"http://127.0.0.1:{port}"]) == status
        router.join()
        assert Path(folder, f"door-{port}").exists()
    seen = capsys.readouterr()
    assert seen.out == "control was replaced\n"
    assert told in seen.err


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid"])
def test_a_router_on_another_machine_is_not_mistaken_for_one_here(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reload(["--router", f"http://{host}:8080"]) == 1
    assert f"{host} is another machine" in capsys.readouterr().err


def test_a_url_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reload(["--router", "http://host:port"])
    assert "'http://host:port' is not a URL" in capsys.readouterr().err
