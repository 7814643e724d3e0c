"""The output of an engine: everything in files that rotate, the last lines at hand, nobody held up."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.babysitter.logs import KEPT, KEPT_LINES, SHOWN_LINE, TAIL_LINES, Output


async def write(output: Output, *chunks: bytes) -> None:
    """One run that prints these."""
    end = output.begin("run")
    for chunk in chunks:
        await asyncio.to_thread(os.write, end, chunk)
    os.close(end)
    await output.drained(10)


async def test_everything_is_written_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    output = Output(tmp_path / "deep" / "x.log", 1 << 20)
    await write(output, b"one\ntw", b"o\r\nthree\n\n", b"no line end")
    assert output.tail() == ["one", "two", "three", "no line end"]
    assert (tmp_path / "deep" / "x.log").read_bytes() == b"--- run\none\ntwo\r\nthree\n\nno line end"
    output.close()


async def test_a_new_run_begins_with_an_empty_tail_and_goes_on_in_the_file(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 1 << 20)
    await write(output, b"first\n")
    await write(output, b"second\n")
    assert output.tail() == ["second"]
    assert (tmp_path / "x.log").read_text() == "--- run\nfirst\n--- run\nsecond\n"
    output.close()


async def test_files_are_rotated_and_four_are_kept_none_larger_than_allowed(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 4096)
    for number in range(100):
        await write(output, b"%04d" % number * 250)
    output.close()
    newest_first = contents(tmp_path)
    assert list(newest_first) == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
    assert len(newest_first) == KEPT
    assert all(len(text) <= 4096 for text in newest_first.values())
    assert b"0099" in newest_first["x.log"]
    numbers = [int(text.split(b"\n")[1][:4]) for text in newest_first.values()]
    assert numbers == sorted(numbers, reverse=True)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


async def test_a_file_of_an_earlier_babysitter_is_continued(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"o" * 4000)
    output = Output(tmp_path / "x.log", 4096)
    await write(output, b"n" * 500)
    assert (tmp_path / "x.log.1").read_bytes().startswith(b"o" * 4000)
    output.close()


async def test_prompts_in_the_output_are_for_the_owner_only(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 4096)
    assert stat.S_IMODE((tmp_path / "x.log").stat().st_mode) == 0o600
    output.close()


async def test_a_progress_bar_without_line_ends_takes_no_memory(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 1 << 20)
    await write(output, *[b"\rloading %3d %%" % (n % 100) for n in range(20_000)], b"\r" + b"x" * 3_000_000)
    tail = output.tail()
    assert len(tail) <= TAIL_LINES + 1
    assert max(map(len, tail)) <= SHOWN_LINE
    assert tail[-1].startswith("x")
    output.close()


async def test_a_full_disk_loses_output_but_never_holds_up_the_engine(tmp_path: Path) -> None:
    (tmp_path / "x.log").symlink_to("/dev/full")
    output = Output(tmp_path / "x.log", 1 << 30)
    await write(output, b"a line\n" * 300_000)
    assert output.tail()[-1] == "a line"
    output.close()


@pytest.mark.parametrize("cut", [1, 5, 9, 20])
async def test_values_of_the_environment_are_blotted_out_of_the_last_lines(tmp_path: Path, cut: int) -> None:
    secret = "sk-0123456789"
    output = Output(tmp_path / "x.log", 1 << 20, [secret, "true", "sk-0123456789-longer"])
    line = f"key {secret} true sk-0123456789-longer end\n".encode()
    await write(output, line[:cut], line[cut:])
    assert output.tail() == ["key *** true *** end"]
    output.close()


async def test_a_secret_at_the_place_where_a_line_is_cut_is_not_shown_in_part(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 1 << 20, ["sk-0123456789"])
    await write(output, b"x" * (SHOWN_LINE - 6) + b"sk-0123456789\n")
    assert "sk-" not in output.tail()[0]
    output.close()


async def test_waiting_for_the_output_is_bounded(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 1 << 20)
    end = output.begin("run")
    await output.drained(0.05)  # somebody still has the pipe
    os.close(end)
    await output.drained(10)
    output.close()


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_however_the_output_is_cut_into_chunks_the_lines_are_the_same(chunks: list[bytes]) -> None:
    whole, pieces = Output(Path("/dev/null"), 1 << 40), Output(Path("/dev/null"), 1 << 40)
    whole._take(b"".join(chunks))
    for chunk in chunks:
        pieces._take(chunk)
    assert pieces.tail() == whole.tail()
    whole.close()
    pieces.close()


async def test_lines_have_numbers_so_that_a_reader_goes_on_where_it_was_over_runs(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 1 << 20, ["sk-0123456789"])
    await write(output, b"one\ntwo sk-0123456789\nhalf")
    assert output.since(0, 100) == (["--- run", "one", "two ***"], 3)
    await write(output, b"three\n")
    assert output.since(3, 100) == (["half", "--- run", "three"], 6)
    assert output.since(6, 100) == ([], 6)
    assert output.since(0, 2) == (["--- run", "one"], 2)
    assert output.since(-1, 2) == (["--- run", "three"], 6)
    assert output.since(-1, 100)[0][0] == "--- run"
    assert output.since(7, 100) == output.since(0, 100), "a number of an earlier babysitter"
    output.close()


async def test_so_many_lines_are_kept_and_who_was_away_longer_goes_on_with_the_oldest(tmp_path: Path) -> None:
    output = Output(tmp_path / "x.log", 1 << 20)
    await write(output, b"".join(b"%d\n" % number for number in range(KEPT_LINES + 500)))
    lines, number = output.since(5, KEPT_LINES * 2)
    assert (len(lines), lines[0], lines[-1]) == (KEPT_LINES, "500", str(KEPT_LINES + 499))
    assert number == KEPT_LINES + 501
    output.close()
