"""The access log where several processes write to one file or pipe, where the disk is full, and on a terminal."""

from __future__ import annotations

import os
import pty
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enginehouse.core.units import KIB, MIB
from enginehouse.data.log_file import LogFile
from tests.data.access_log_rig import DEADLINE, Found, both_ends, ids, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with both_ends() as ends:
        yield ends


# several processes


class Writer:
    """See `access_log_writer`."""

    def __init__(self, path: object, name: str, count: int, batch: int = 50, capacity: int = 64 * MIB, **how: Any):
        arguments = [str(path), name, str(count), str(batch), str(capacity)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.data.access_log_writer", *arguments],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2], **how,
        )  # fmt: skip

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def flushed(self) -> None:
        """Until everything was handed to the thread."""
        assert self.process.stderr is not None
        while (line := self.process.stderr.readline()) != b"flushed\n":
            assert line

    def end(self) -> str:
        """Close the log; what else was said."""
        _, said = self.process.communicate(b"\n", timeout=DEADLINE)
        assert self.process.returncode == 0, said
        return said.decode()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def both(text: bytes, count: int) -> None:
    """Every line of two writers is whole and there once, each writer's in order."""
    found = Found(text)
    assert len(found.ids) == 2 * count
    for name in ("a", "b"):
        assert [id for id in found.ids if id.startswith(name)] == [f"{name}-{number}" for number in range(count)]


def test_lines_of_two_processes_in_one_file_never_mix(path: Path) -> None:
    with Writer(path, "a", 20_000) as a, Writer(path, "b", 20_000) as b:
        for writer in (a, b):
            writer.go()
        for writer in (a, b):
            writer.end()
        both(path.read_bytes(), 20_000)


def test_lines_of_two_processes_on_one_standard_output_never_mix_in_a_pipe(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with Writer("-", "a", 5_000, stdout=writing) as a, Writer("-", "b", 5_000, stdout=writing) as b:
        os.close(writing)
        for writer in (a, b):
            writer.go()
        enders = [threading.Thread(target=writer.end) for writer in (a, b)]
        for ender in enders:
            ender.start()
        text = b""
        while piece := os.read(reading, 1000):
            text += piece
        for ender in enders:
            ender.join(DEADLINE)
        both(text, 5_000)


# full disks


def limit_file_size(pid: int, size: int) -> None:
    """Writes beyond `size` bytes are cut, then fail, as on a full disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("limit", [20_000, 20_001, 20_150])
@pytest.mark.parametrize("by", ["its path", "a shell's >"])
def test_a_full_disk_leaves_whole_lines_only_and_lines_wait_until_there_is_room(
    path: Path, limit: int, by: str
) -> None:
    with path.open("wb") as out, Writer(path if by == "its path" else "-", "a", 1_000, stdout=out) as writer:
        limit_file_size(writer.process.pid, limit)
        writer.go()
        writer.flushed()
        until(lambda: limit - 500 < path.stat().st_size <= limit)
        until(lambda: path.read_bytes().endswith(b"\n"))
        limit_file_size(writer.process.pid, resource.RLIM_INFINITY)
        said = writer.end()
        assert ids(path) == [f"a-{number}" for number in range(1_000)]
        assert said.count("\n") <= 1, said


def test_a_full_disk_is_told_once_and_what_does_not_fit_the_memory_is_counted(path: Path) -> None:
    with Writer(path, "a", 20_000, capacity=256 * KIB) as writer:
        limit_file_size(writer.process.pid, 20_000)
        writer.go()
        writer.flushed()
        limit_file_size(writer.process.pid, resource.RLIM_INFINITY)
        said = writer.end()
        found = Found(path.read_bytes())
        assert found.dropped > 0
        assert len(found.ids) + found.dropped == 20_000
        assert not found.repeated
        assert said.count("File too large") <= 1


def test_a_full_disk_does_not_take_back_what_another_process_wrote_behind_the_fragment(path: Path) -> None:
    file = LogFile(str(path))
    file.open()
    path.write_bytes(b"")
    os.write(file._descriptor, b"whole\nfragm")
    with path.open("ab") as other:
        other.write(b"another's\n")
    assert file._cut_fragment(b"whole\nfragment\n", 0, 11) == 6
    assert path.read_bytes() == b"whole\nfragmanother's\n"
    file.close()


# the standard output


def standard_output(form: str, stdout: int) -> None:
    code = f"""
import sys
from enginehouse.data.access_log import AccessLog
from tests.data.access_log_rig import entry
log = AccessLog("-", {form!r})
log.take([entry("x")], 0.0)
log.close()
print("still open")
"""
    subprocess.run([sys.executable, "-c", code], stdout=stdout, cwd=Path(__file__).parents[2], check=True, timeout=60)


@pytest.mark.parametrize(("form", "start"), [("auto", b"20"), ("json", b"{"), ("text", b"20")])
def test_on_a_terminal_lines_are_for_people_unless_said_otherwise(form: str, start: bytes) -> None:
    terminal, end = pty.openpty()
    try:
        standard_output(form, end)
        text = os.read(terminal, 65536)
    finally:
        os.close(terminal)
        os.close(end)
    assert text.startswith(start)
    assert text.endswith(b"\nstill open\r\n")


@pytest.mark.parametrize(("form", "start"), [("auto", b"{"), ("json", b"{"), ("text", b"20")])
def test_elsewhere_lines_are_for_programs_unless_said_otherwise(form: str, start: bytes, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    standard_output(form, writing)
    text = os.read(reading, 65536)
    assert text.startswith(start)
    assert text.endswith(b"\nstill open\n")


def test_the_standard_output_may_be_a_file_that_a_shell_opened(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        standard_output("auto", out.fileno())
    assert (tmp_path / "out").read_bytes().startswith(b"{")
