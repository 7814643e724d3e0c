"""The rows of the failure lab, and the lab as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos.cases import BY_NAME, CASES
from bench.chaos.overload import NAME as OVERLOAD
from bench.chaos.processes import parts
from bench.chaos.real import CASES as REAL
from bench.chaos.run import NAMES, line, skipped, table
from bench.chaos.stage import toml
from bench.chaos.system_faults import no_mounts

ROOT = Path(__file__).parents[2]


def test_every_row_has_a_name_of_its_own_that_fits_a_command_line() -> None:
    assert len(NAMES) == len(set(NAMES)) == len(CASES) + 1
    assert len({case.name for case in REAL}) == len(REAL)
    assert not [name for name in NAMES if not name.replace("-", "").isalnum()]
    assert OVERLOAD not in BY_NAME


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.chaos", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def test_one_row_of_the_lab_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    done = lab("--cases", "kill", "--seconds", "1", "--out", str(out))
    assert "kill" in done.stdout, done.stderr
    told = json.loads(out.read_text())
    (row,) = told["rows"]
    assert told["finished"]
    assert row["sent"] == sum(row[kind] for kind in ("right", "refused", "broken_off", "lost", "wrong")) > 50
    assert row["lost"] + row["wrong"] == 0, row
    assert row["noticed_after_s"] is not None
    assert row["recovered_after_s"] is not None
    assert done.returncode == 0 if row["ok"] else 1


def test_an_unknown_row_is_refused_with_those_there_are() -> None:
    done = lab("--cases", "kil")
    assert done.returncode == 2
    assert "there is no kil; choose of kill," in done.stderr


ROW = {
    "case": "kill", "sent": 10, "right": 8, "refused": 1, "broken_off": 0, "lost": 1, "wrong": 0, "repeated": 0,
    "resumed": 3, "worst_wait": 1.5, "noticed_after_s": 0.2, "recovered_after_s": None, "problems": [], "ok": False,
    "samples": {"lost": {"closed without an answer (closed)": 1}},
}  # fmt: skip


def test_the_table_says_which_rows_fail_and_why_and_what_was_not_run() -> None:
    told = "\n".join(table([ROW, skipped("dns", "the machine", "names", "needs root")]))
    assert "kill  10    8      1             1              1.50 s      0.20 s         -" in told
    assert "kill: lost, 1 times: closed without an answer (closed)" in told
    assert "0 rows hold, 1 fail: kill" in told
    assert "not run here: dns" in told
    assert "FAIL" in line(ROW)
    assert "3 resumed" in line(ROW)


@pytest.mark.skipif(bool(no_mounts()), reason=no_mounts())
def test_a_disk_of_its_own_is_seen_by_the_process_alone(tmp_path: Path) -> None:
    from bench.chaos.system_faults import own_mounts

    script = 'mount -t tmpfs -o size=1m lab "$0"; touch "$0/here"; ls "$0"'
    command = [*own_mounts(), "sh", "-ec", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["here"]
    assert not (tmp_path / "here").exists()


def test_settings_are_written_as_toml() -> None:
    assert toml({"a": {"b": 1, "c": [True, "x"]}}) == 'a = { "b" = 1, "c" = [true, "x"] }\n'


def test_a_process_that_is_no_part_of_a_house_is_none() -> None:
    assert parts(2**22 + 1) == []
