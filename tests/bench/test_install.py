"""What the bench says where it cannot install what it needs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.common import install
from bench.common.processes import BenchError


def test_a_program_that_is_there_is_not_installed() -> None:
    install.debian("sh")


def test_whoever_may_not_install_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BenchError, match=r"sudo apt-get install .* no-such-program"):
        install.debian("no-such-program")


def test_a_system_without_debian_s_packages_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(BenchError, match="wrk is needed: install it"):
        install.debian("wrk")


def test_no_service_is_started_by_an_installation_and_nothing_stays_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(install, "_POLICY", policy)
    with install.no_services():
        assert subprocess.run([str(policy), "nginx", "start"], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("somebody's")
    with install.no_services():
        pass
    assert policy.read_text() == "somebody's"


def test_every_peer_has_an_exact_version() -> None:
    assert all("==" in pinned for pinned in install.PINS.values())


def test_an_environment_made_for_the_pinned_version_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "SCRATCH", tmp_path)
    environment = tmp_path / "env" / "vllm-router"
    environment.mkdir(parents=True)
    (environment / "installed").write_text(install.PINS["vllm-router"])
    assert install.pypi("vllm-router") == environment / "bin"
