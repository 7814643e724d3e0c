"""The fuzzer on a real router for some seconds, and the page about it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.report import fuzzing

ROOT = Path(__file__).parents[2]


def test_some_seconds_of_broken_requests_and_answers_do_no_harm_and_are_told_in_a_file(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    words = ["--minutes", "0.05", "--parallel", "20", "--seed", "11", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.fuzz", *words], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert told["findings"] == []
    assert told["cases"] > 20
    assert told["settings"]["seed"] == 11
    assert told["corpus"]["digest"]
    assert told["came_back"]["plain answered"] > 0
    text = fuzzing.told(told)
    assert "| **Findings** | **none** |" in text
    assert f"| Cases | {told['cases']:,} |" in text
