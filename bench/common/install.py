"""Bringing onto this machine what the bench compares with.

Owns the pinned versions, installing from Debian and from PyPI into an environment each. May not live here: starting it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.common.processes import BenchError

#: Everything the bench downloads or writes while it runs; ignored by git.
SCRATCH = Path(__file__).parents[2] / ".bench"
#: What is compared with, exactly: the newest of each that could be installed when the figures were made.
PINS = {
    "vllm-router": "vllm-router==0.1.17",
    "sglang-router": "sglang-router==0.3.2",
    "litellm": "litellm[proxy]==1.99.4",
}
#: Debian asks this program whether a service may be started when its package is installed: 101 is no.
_POLICY = Path("/usr/sbin/policy-rc.d")


def found(program: str) -> str:
    """Where it is, "" for nowhere. Whoever is not root has no sbin in his path, where Debian has nginx."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin") or ""


def debian(package: str) -> None:
    """Make sure that a program of this package's name is there. Raises `BenchError` saying what to do."""
    if found(package):
        return
    command = f"apt-get install -y --no-install-recommends {package}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BenchError(f"{package} is needed: install it (Debian: sudo {command}) and start again")
    print(f"installing {package} …", file=sys.stderr)
    with no_services():
        for words in (["apt-get", "update"], command.split()):
            done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode or not found(package):
            raise BenchError(f"{command} failed: {done.stderr.strip()[-1000:]}")


@contextmanager
def no_services() -> Iterator[None]:
    """While packages are installed, none of them may start its service."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def pypi(name: str) -> Path:
    """The folder of programs of an environment with that package in its pinned version, made if it is not there.

    Raises `BenchError` with the installer's words.
    """
    pinned = PINS[name]
    environment = SCRATCH / "env" / name
    stamp = environment / "installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == pinned:
        return environment / "bin"
    print(f"installing {pinned} …", file=sys.stderr)
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(environment)],
        [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", pinned],
    )
    for words in steps:
        done = subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-500:]]
            raise BenchError(f"{pinned} cannot be installed: {errors[-1]}")
    stamp.write_text(pinned, encoding="utf-8")
    return environment / "bin"
