"""The guard: what it is told, what it finds, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.babysitter import guard
from enginehouse.babysitter.guard import Order
from tests.babysitter.house import DEADLINE, alive

ENV = {"PATH": os.environ["PATH"]}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1)


class Guarded:
    """A guard process and our end of its socket."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process = process
        self.control = control
        self._lines = control.makefile("r")

    def line(self) -> str:
        return self._lines.readline().rstrip("\n")

    def close(self) -> None:
        self._lines.close()
        self.control.close()


@contextmanager
def guarded(order: Order) -> Iterator[Guarded]:
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)
    command = [sys.executable, "-I", "-S", guard.__file__, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
    theirs.close()
    made = Guarded(process, ours)
    try:
        ours.sendall(order.pack())
        yield made
    finally:
        made.close()
        assert process.wait(DEADLINE) == 0


def shell(script: str) -> Order:
    return Order(["/bin/sh", "-c", script], ENV, "")


@given(argv=st.lists(TEXT, min_size=1), env=st.dictionaries(NAME, TEXT), cwd=TEXT)
def test_an_order_arrives_as_it_was_given(argv: list[str], env: dict[str, str], cwd: str) -> None:
    length, _, body = Order(argv, env, cwd).pack().partition(b"\n")
    assert int(length) == len(body)
    assert Order.unpack(body) == Order(argv, env, cwd)


def test_bytes_that_are_no_utf_8_arrive_too() -> None:
    order = Order(["a", os.fsdecode(b"\xff\xfe")], {"X": os.fsdecode(b"\xe9")}, "")
    assert Order.unpack(order.pack().partition(b"\n")[2]) == order


def test_the_exit_status_is_passed_through() -> None:
    with guarded(shell("exit 42")) as made:
        assert made.line().startswith("pid ")
        assert made.line() == "exited 42"


def test_the_signal_that_ended_it_is_passed_through() -> None:
    with guarded(shell("kill -SEGV $$")) as made:
        made.line()
        assert made.line() == f"exited -{signal.SIGSEGV.value}"


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds; processes tell nobody of their state."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_signals_are_passed_to_the_group_in_order(tmp_path: Path) -> None:
    ready = tmp_path / "ready"  # before its traps are set, a signal would end the shell by itself
    script = f"trap 'echo one' USR1; trap 'exit 5' TERM; touch {ready}; while :; do sleep 0.05; done"
    with guarded(shell(script)) as made:
        pid = int(made.line().split()[1])
        assert os.getpgid(pid) == pid != os.getpgid(made.process.pid)
        wait_for(ready.exists)
        made.control.sendall(bytes([signal.SIGUSR1]))
        made.control.sendall(bytes([signal.SIGTERM]))
        assert made.line() == "exited 5"


def test_the_program_gets_the_signals_python_and_the_guard_ignore_as_they_were() -> None:
    mask = sum(1 << (number - 1) for number in guard.CHANGED)  # others may be ignored by whoever runs the tests
    ignored = "0x$(grep SigIgn /proc/self/status | cut -f2)"
    with guarded(shell(f"[ $(( {ignored} & {mask} )) = 0 ] && exit 7")) as made:
        made.line()
        assert made.line() == "exited 7"


def test_the_program_has_the_environment_of_the_order_only_and_neither_socket_nor_other_descriptors(
    tmp_path: Path,
) -> None:
    with guarded(shell(f"env > {tmp_path}/env; ls /proc/$$/fd > {tmp_path}/fds")) as made:
        made.line()
        assert made.line() == "exited 0"
    names = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "PWD", "OLDPWD", "SHLVL", "_"}
    assert set((tmp_path / "fds").read_text().split()) <= {"0", "1", "2", "255", "10"}


def test_the_guards_own_command_line_shows_nothing_of_the_program() -> None:
    order = Order(["/bin/sleep", "600"], ENV | {"KEY": "secret-value"}, "")
    with guarded(order) as made:
        made.line()
        told = str(psutil.Process(made.process.pid).cmdline())
        assert "sleep" not in told
        assert "secret-value" not in told
        assert "secret-value" not in str(psutil.Process(made.process.pid).environ())


def test_sigterm_sigint_and_sighup_do_not_stop_the_guard() -> None:
    """Who stops a whole service at once sends them to every process of it."""
    with guarded(shell("sleep 600")) as made:
        pid = int(made.line().split()[1])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            made.process.send_signal(number)
        made.control.sendall(bytes([signal.SIGCONT]))
        time.sleep(0.2)
        assert alive(pid)
        assert made.process.poll() is None


def test_when_the_socket_ends_everything_is_killed_in_whatever_session_it_is(tmp_path: Path) -> None:
    script = f"""
        trap '' TERM INT HUP
        cd {tmp_path}
        setsid sh -c 'trap "" TERM HUP; echo $$ >> pids; setsid sleep 600 & echo $! >> pids; wait' &
        (setsid sh -c 'echo $$ >> pids; exec sleep 600' &)
        echo $$ >> pids
        while :; do sleep 1; done
    """
    pids: list[int] = []
    with guarded(shell(script)) as made:
        made.line()
        end = time.monotonic() + DEADLINE
        while len(pids) < 4 and time.monotonic() < end:
            pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()] if (tmp_path / "pids").exists() else []
            time.sleep(0.02)
        assert len(pids) == 4
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)


def test_a_stubborn_family_that_forks_while_it_is_killed_ends_all_the_same(tmp_path: Path) -> None:
    script = (
        f"for i in 1 2 3 4; do (while :; do setsid sleep 600 & sleep 0.01; done) & done; echo $$ > {tmp_path}/up; wait"
    )
    with guarded(shell(script)) as made:
        made.line()
        wait_for((tmp_path / "up").exists)
        guard_process = psutil.Process(made.process.pid)
        wait_for(lambda: len(guard_process.children(recursive=True)) > 8)
        family = guard_process.children(recursive=True)
    assert not any(alive(process.pid) for process in family)


def test_children_left_by_a_program_that_ended_are_killed(tmp_path: Path) -> None:
    with guarded(shell(f"setsid sleep 600 & echo $! > {tmp_path}/pid; exit 3")) as made:
        made.line()
        assert made.line() == "exited 3"  # told before the clearing up
        assert made.process.wait(DEADLINE) == 0
        assert not alive(int((tmp_path / "pid").read_text()))


def test_kill_9_of_babysitter_and_guard_at_once_takes_the_program_with_them() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-I", "-S", guard.__file__, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True) as process:
        theirs.close()
        ours.sendall(shell("sleep 600").pack())
        with ours.makefile("r") as lines:
            pid = int(lines.readline().split()[1])
        process.kill()
    ours.close()
    end = time.monotonic() + DEADLINE
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(pid)


def test_a_program_that_cannot_be_executed_is_told_with_its_name() -> None:
    with guarded(Order(["/nowhere/engine"], ENV, "")) as made:
        lines = [made.line(), made.line(), made.line()]
    assert lines[1] == "failed /nowhere/engine: No such file or directory"
    assert lines[2] == "exited 127"


def test_a_directory_that_does_not_exist_is_told_with_its_name() -> None:
    with guarded(Order(["/bin/true"], ENV, "/nowhere")) as made:
        assert made.line() == "failed /nowhere: No such file or directory"


def test_a_babysitter_that_ends_before_it_gave_an_order_leaves_no_guard() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-I", "-S", guard.__file__, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
    theirs.close()
    ours.sendall(b"1000\nhalf an ord")
    ours.close()
    assert process.wait(DEADLINE) == 0


def test_where_there_is_no_proc_descendants_are_found_with_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600 & wait"]) as process:
        end = time.monotonic() + DEADLINE
        while len(guard.descendants(process.pid)) < 1 and time.monotonic() < end:
            time.sleep(0.01)
        found = guard.descendants(process.pid)
        monkeypatch.setattr(guard, "LINUX", False)
        assert guard.descendants(process.pid) == found
        assert len(found) == 1
        for pid in (process.pid, *found):
            os.kill(pid, signal.SIGKILL)


def test_the_guard_needs_the_standard_library_only_and_little_of_it() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(guard.__file__).parent)!r}); import guard; print(len(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True).stdout
    assert int(out) < 90
