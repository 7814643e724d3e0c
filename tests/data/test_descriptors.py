"""A worker takes no more clients than it has file descriptors for."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from enginehouse.data.descriptors import EACH, OWN, connections

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))
from enginehouse.data.descriptors import raise_limit
print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("wanted", "limit", "allowed"),
    [(16384, None, 16384), (16384, 1 << 20, 16384), (100, OWN + EACH * 40, 40), (100, 10, 1), (100, OWN + 300, 100)],
)
def test_as_many_clients_as_are_wanted_or_as_descriptors_allow(wanted: int, limit: int | None, allowed: int) -> None:
    assert connections(wanted, limit) == allowed


def test_the_limit_is_raised_as_far_as_the_process_may() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 200
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "200 (200, 200)\n"
