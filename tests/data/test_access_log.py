"""The access log on real files, pipes and terminals, with real threads and processes."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enginehouse.core.units import KIB, MIB
from enginehouse.data import access_log
from enginehouse.data.access_log import AccessLog
from enginehouse.data.ended import BATCH
from tests.data.access_log_rig import DEADLINE, Found, both_ends, entry, ids, until

Start = Callable[..., AccessLog]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def start(told: list[str]) -> Iterator[Start]:
    """Makes logs, and closes them however the test ends."""
    logs: list[AccessLog] = []

    def make(path: object, form: Any = "json", **how: Any) -> AccessLog:
        log = AccessLog(str(path), form, **{"tell": told.append, **how})
        logs.append(log)
        return log

    yield make
    for log in logs:
        log.close(0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with both_ends() as ends:
        yield ends


def flush(log: AccessLog, now: float | None = None) -> None:
    """A beat at which no request is over."""
    log.take([], time.monotonic() if now is None else now)


def written(log: AccessLog) -> None:
    """Until everything is written, flushing as a worker does."""

    def all_is_written() -> bool:
        flush(log)
        return not log._unwritten

    until(all_is_written)


def add(log: AccessLog, first: int, count: int, now: float = 0.0) -> None:
    """A batch. Without `now` it comes so soon after the one before that only the next `flush` wakes the thread."""
    log.take([entry(str(number)) for number in range(first, first + count)], now)


def numbers(first: int, count: int) -> list[str]:
    return [str(number) for number in range(first, first + count)]


# writing


def test_lines_are_in_the_file_soon_after_a_flush_and_in_order(start: Start, path: Path) -> None:
    log = start(path)
    add(log, 0, 3)
    flush(log)
    until(lambda: path.exists() and len(ids(path)) == 3)
    add(log, 3, 2)
    flush(log, time.monotonic() + 1)
    until(lambda: len(ids(path)) == 5)
    assert ids(path) == numbers(0, 5)


def test_nothing_is_opened_and_no_thread_runs_before_there_is_a_line(start: Start, path: Path) -> None:
    threads = threading.active_count()
    log = start(path)
    flush(log)
    log.reopen()
    log.close()
    assert not path.exists()
    assert threading.active_count() == threads


def test_without_a_path_the_log_is_off() -> None:
    assert not AccessLog("").is_on
    assert AccessLog("-").is_on


def test_the_file_is_for_its_owner_and_group(start: Start, path: Path) -> None:
    before = os.umask(0)
    try:
        log = start(path)
        add(log, 0, 1)
        log.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_lines_are_appended_to_what_is_there(start: Start, path: Path) -> None:
    path.write_bytes(b'{"id":"older"}\n')
    log = start(path)
    add(log, 0, 1)
    log.close()
    assert ids(path) == ["older", "0"]


def test_wall_clock_times_come_from_the_monotonic_ones_at_each_batch(start: Start, path: Path) -> None:
    """So that a request reads one clock only, and a wall clock that was set does not make durations wrong."""
    offset = 1_700_000_000.0 - 1000.25
    log = start(path, offset=lambda: offset)
    log.take([entry("early", ended=1000.0)], 1000.25)
    offset += 3599.25  # somebody sets the clock
    log.take([entry("late", ended=1001.0)], 1001.0)
    log.close()
    text = path.read_text()
    assert '{"time":"2023-11-14T22:13:19.750Z","id":"early"' in text
    assert '{"time":"2023-11-14T23:13:20.000Z","id":"late"' in text
    assert text.count('"duration_ms":500.0') == 2


def test_a_full_batch_may_be_flushed_as_often_as_it_comes_and_is_written_without_waking_the_thread_each_time(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch of threads costs as much as a hundred lines."""
    log = start(path, capacity=64 * MIB)
    woken = 0
    wake = log._wake

    def counted() -> threading.Thread:
        nonlocal woken
        woken += 1
        return wake()

    monkeypatch.setattr(log, "_wake", counted)
    now = time.monotonic()
    for batch in range(40):
        add(log, batch * BATCH, BATCH, now + batch * 0.001)
    assert woken < 10
    log.close()
    assert ids(path) == numbers(0, 40 * BATCH)


def test_close_writes_everything(start: Start, path: Path) -> None:
    log = start(path, capacity=64 * MIB)
    add(log, 0, 20_000)
    log.close(DEADLINE)
    assert ids(path) == numbers(0, 20_000)


# rotation


def test_after_a_rotation_lines_go_into_a_new_file_and_the_old_one_is_let_go(start: Start, path: Path) -> None:
    log = start(path)
    add(log, 0, 2)
    flush(log)
    until(path.exists)
    until(lambda: len(ids(path)) == 2)
    old = path.rename(path.with_suffix(".log.1"))
    log.reopen()
    until(path.exists)
    until(lambda: str(old) not in open_files())
    add(log, 2, 2)
    log.close()
    assert (ids(old), ids(path)) == (numbers(0, 2), numbers(2, 2))


def open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # of the listing itself
            found.add(str(descriptor.readlink()))
    return found


def test_no_line_is_lost_or_repeated_by_rotations_while_requests_come(start: Start, path: Path) -> None:
    log = start(path, capacity=64 * MIB)
    rotated = []
    for turn in range(50):
        add(log, turn * 300, 300)
        flush(log, 1.0 + turn)
        until(path.exists)
        rotated.append(path.rename(path.with_name(f"{turn}.log")))
        log.reopen()
    add(log, 15_000, 1)
    log.close(DEADLINE)
    found = Found(b"".join(file.read_bytes() for file in [*rotated, path]))
    assert found.ids == numbers(0, 15_001)


def test_where_the_file_cannot_be_opened_again_the_old_one_is_kept(start: Start, path: Path, told: list[str]) -> None:
    log = start(path)
    add(log, 0, 1)
    flush(log)
    until(lambda: path.exists() and ids(path))
    old = path.rename(path.with_suffix(".old"))
    path.mkdir()
    log.reopen()
    until(lambda: told)
    add(log, 1, 1)
    log.close()
    assert ids(old) == ["0", "1"]
    assert told == [f"access log {path} cannot be opened again: Is a directory; the old file is kept"]


# what cannot be written


def test_a_file_that_cannot_be_opened_is_told_once_and_lines_wait_for_it(
    start: Start, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "RETRY", 0.02)
    path = tmp_path / "missing" / "access.log"
    log = start(path)
    for turn in range(5):
        add(log, turn, 1)
        flush(log)
        time.sleep(0.03)  # several more tries
    assert told == [f"access log {path}: No such file or directory; lines wait, and are dropped when they are many"]
    path.parent.mkdir()
    written(log)
    assert ids(path) == numbers(0, 5)
    until(lambda: told[1:] == [f"access log {path} is written again"])


def test_lines_that_nobody_reads_are_held_up_to_the_capacity_and_the_others_dropped_and_counted(
    start: Start, pipe: tuple[int, int]
) -> None:
    """A slow reader costs lines, never memory, and never a wait of the loop."""
    reading, writing = pipe
    capacity = 100 * KIB
    log = start(f"/dev/fd/{writing}", capacity=capacity)
    for turn in range(100):
        add(log, turn * 100, 100)
        flush(log)
        assert log._unwritten <= capacity
    until(lambda: log._file.is_open)
    os.close(writing)  # the log has opened its own
    found = Found(drain(reading, log))
    assert found.dropped > 0
    assert len(found.ids) + found.dropped == 10_000
    assert found.ids == sorted(found.ids, key=int)
    assert not found.repeated


def drain(reading: int, log: AccessLog) -> bytes:
    """Read all that comes while the log is closed."""
    pieces: list[bytes] = []

    def read_all() -> None:
        while piece := os.read(reading, 65536):
            pieces.append(piece)

    reader = threading.Thread(target=read_all)
    reader.start()
    written(log)
    log.close(DEADLINE)
    reader.join(DEADLINE)
    return b"".join(pieces)


def test_the_line_about_dropped_ones_stands_where_they_are_missing(start: Start, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = start(f"/dev/fd/{writing}", capacity=4 * KIB)
    add(log, 0, 4)
    flush(log)
    add(log, 4, 1000)
    flush(log)
    written(log)  # no request is needed for the line about those that are missing
    add(log, 2000, 1)
    os.close(writing)
    lines = drain(reading, log).splitlines()
    assert [b"dropped" in line for line in lines] == [False] * 4 + [True, False]
    assert b'"dropped":1000}' in lines[4]


def test_closing_waits_for_a_stuck_reader_until_its_deadline_only_and_tells_what_was_lost(
    start: Start, pipe: tuple[int, int], told: list[str]
) -> None:
    _, writing = pipe
    log = start(f"/dev/fd/{writing}")
    add(log, 0, 1000)
    begun = time.monotonic()
    log.close(0.1)
    assert time.monotonic() - begun < DEADLINE
    assert log._thread is not None
    assert not log._thread.is_alive()
    assert "could not be written before the end" in told[-1]


def test_a_named_pipe_that_nobody_reads_holds_up_nobody(start: Start, path: Path, told: list[str]) -> None:
    os.mkfifo(path)
    log = start(path)
    add(log, 0, 1)
    flush(log)
    until(lambda: told)
    assert "No such device or address" in told[0]
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        written(log)
        log.close()
        assert Found(reader.read()).ids == ["0"]


def test_a_reader_that_is_gone_is_told_and_requests_go_on(start: Start, pipe: tuple[int, int], told: list[str]) -> None:
    reading, writing = pipe
    log = start(f"/dev/fd/{writing}", capacity=100 * KIB)
    add(log, 0, 1)
    flush(log)
    written(log)
    os.close(reading)
    for turn in range(20):
        add(log, turn * 100, 100)
        flush(log, time.monotonic() + turn)
    until(lambda: told)
    assert "Broken pipe" in told[0]
