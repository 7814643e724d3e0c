"""The search for things that tests leave behind: each kind is left behind once, in a session of its own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]

LEAVES_A_GRANDCHILD = """
import subprocess, sys
def test_it():
    sleeper = "import time; time.sleep(60)"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", child], check=True)
"""
LEAVES_A_PORT = """
import socket
kept = []
def test_it():
    server = socket.create_server(("127.0.0.1", 0))
    kept.append(server)
"""
LEAVES_A_FILE = """
import tempfile
def test_it():
    tempfile.mkstemp(prefix="forgotten-")
"""
LEAVES_NOTHING = """
import subprocess, sys, tempfile, socket
def test_it(tmp_path):
    (tmp_path / "x").write_text("y")
    with socket.create_server(("127.0.0.1", 0)), tempfile.NamedTemporaryFile():
        subprocess.run([sys.executable, "-c", "pass"], check=True)
"""


def session(directory: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one test file in a pytest of its own with the plugin, without this repository's configuration."""
    (directory / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-p", "tests.leftovers", "-c", os.devnull, "--rootdir", str(directory)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--basetemp={directory}/base", *arguments, str(directory)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["one process", "xdist"])
class TestASession:
    def test_that_leaves_nothing_behind_passes(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        done = session(tmp_path, LEAVES_NOTHING, *arguments)
        assert done.returncode == 0, done.stdout
        assert "left behind" not in done.stdout

    def test_that_leaves_a_detached_grandchild_fails_names_the_test_and_ends_the_process(
        self, tmp_path: Path, arguments: tuple[str, ...]
    ) -> None:
        done = session(tmp_path, LEAVES_A_GRANDCHILD, *arguments)
        assert done.returncode == 1, done.stdout
        left = re.search(r"process (\d+) started by \S*test_it\.py::test_it", done.stdout)
        assert left, done.stdout
        assert ended(int(left[1]))

    def test_that_leaves_a_listening_port_fails(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        done = session(tmp_path, LEAVES_A_PORT, *arguments)
        assert done.returncode == 1, done.stdout
        assert re.search(r"port \d+ still listens", done.stdout)

    def test_that_leaves_a_temporary_file_fails_and_names_it(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        done = session(tmp_path, LEAVES_A_FILE, *arguments)
        assert done.returncode == 1, done.stdout
        assert "temporary file forgotten-" in done.stdout


def ended(pid: int) -> bool:
    """Whether a process is gone within ten seconds; a zombie that nobody collects counts as gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False
