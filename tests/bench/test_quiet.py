"""Waiting for a quiet machine: by what all processes use of it."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.common.quiet import Busy, until_quiet

SPIN = "while True: pass"


def test_a_core_that_is_used_is_seen_and_waiting_for_its_end_is_given_up() -> None:
    busy = Busy()
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range((os.cpu_count() or 1) // 4 + 1)]
    try:
        assert until_quiet(patience=0.1) > 0.1
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert 0.1 < busy.stop() <= 1.0
