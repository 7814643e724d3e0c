"""What the bench starts, it ends."""

import socket
import sys
from pathlib import Path

import psutil
import pytest

from bench.common import processes
from bench.common.processes import BenchError, Processes
from tests.ports import Ports

#: Listens only once it has a child, which ignores the polite way to be ended, as it does itself.
STUBBORN = """
import signal, socket, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""
TALKER = "import sys, time; print('one', flush=True); sys.stdin.read(); print('two', flush=True); time.sleep({})"


def test_leaving_the_context_ends_processes_that_ignore_being_asked(
    tmp_path: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    port = ports.one()
    with Processes(tmp_path) as started:
        process = started.start("stubborn", [sys.executable, "-c", STUBBORN, str(port)], ())
        processes.wait_for(process, port, 30)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 2
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_process_that_ends_instead_of_listening_is_reported_with_its_last_words(tmp_path: Path, ports: Ports) -> None:
    with Processes(tmp_path) as started:
        process = started.start("broken", [sys.executable, "-c", "raise SystemExit('no such model')"], ())
        with pytest.raises(BenchError, match=r"broken ended with status 1(.|\n)*no such model"):
            processes.wait_for(process, ports.one(), 30)


def test_a_command_is_heard_line_by_line() -> None:
    with processes.spoken([sys.executable, "-c", TALKER.format(0)], ()) as line:
        assert line(30) == "one"
        assert line(30) == "two"
        with pytest.raises(BenchError, match="ended"):
            line(30)


def test_a_command_that_says_nothing_in_time_is_ended() -> None:
    with processes.spoken([sys.executable, "-c", TALKER.format(600)], ()) as line:
        assert [line(30), line(30)] == ["one", "two"]
        with pytest.raises(BenchError, match="said nothing for 0 s"):
            line(0.05)


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(BenchError, match="status 3: not today"):
        processes.run([sys.executable, "-c", "import sys; print('not today', file=sys.stderr); sys.exit(3)"], (), 30)


def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(BenchError, match="took longer"):
        processes.run([sys.executable, "-c", "import time; time.sleep(600)"], (), 0.1)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", processes.free_port())):
        pass
