"""Memory of bodies stays mapped, within bounds."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from enginehouse.data import allocator
print(allocator.tune())
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        bytes(1 << 20).replace(b"\\0", b"x", 1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(10)
print(faults(100))
"""


def test_bodies_of_a_megabyte_one_after_the_other_use_the_same_memory() -> None:
    """Without it each costs 256 page faults and more."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    tuned, faults = ran.stdout.split()
    assert tuned == str(sys.platform == "linux")
    if tuned == "True":
        assert int(faults) < 100
