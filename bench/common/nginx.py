"""Starting an nginx that touches nothing outside its folder.

Owns what stands in every nginx.conf of ours, and the command. May not live here: what any of them serves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.common import install
from bench.common.processes import Process, Processes, wait_for

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def base(workers: int) -> str:
    """What stands above `http` in every nginx.conf of ours: in the foreground, nothing outside its prefix."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    return (
        f"daemon off;\n{user}worker_processes {workers};\nworker_rlimit_nofile 20000;\npid nginx.pid;\n"
        "error_log stderr error;\nevents { worker_connections 16384; }"
    )


def temporary_paths() -> str:
    """Where nginx may buffer: in its prefix."""
    return " ".join(f"{name}_temp_path {name};" for name in _TEMPORARY)


def start_nginx(processes: Processes, name: str, text: str, port: int, cores: Sequence[int], prefix: Path) -> Process:
    """Start an nginx with this configuration in a prefix of its own, and wait until it listens."""
    prefix.mkdir(parents=True, exist_ok=True)
    (prefix / "nginx.conf").write_text(text, encoding="utf-8")
    process = processes.start(name, nginx_command(prefix), cores)
    wait_for(process, port, 10)
    return process


def nginx_command(prefix: Path) -> list[str]:
    """How an nginx of ours is started."""
    return [install.found("nginx") or "nginx", "-e", "stderr", "-p", str(prefix), "-c", "nginx.conf"]
