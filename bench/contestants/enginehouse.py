"""Enginehouse as a user starts it, with everything on.

Owns its configuration for the bench. May not live here: anything it does.
"""

from __future__ import annotations

import json
import os
import subprocess

from bench.common import cpu
from bench.common.machine import ROOT
from bench.common.processes import BenchError, Process, Processes, free_port, wait_for
from bench.contestants.base import Job, Started

_CONFIG = """\
[router]
host = "127.0.0.1"
port = {port}
workers = {workers}
static_services = "{services}"
max_idle_per_service = 1024
access_log = "{log}"
{more}
"""


class Enginehouse:
    """`enginehouse router` on a file of static services, out of one of the repository's environments.

    `made_by`: the script that makes the environment, where the bench itself does not run in it. `more`: further lines
    of its `[router]`.
    """

    counted = "all processes below the started one: supervisor, control and workers"
    patience = 1
    routing = "by the model in the body, among the services that serve it by `policy` (`prefix` unless configured)"

    def __init__(self, name: str, environment: str, made_by: str = "", more: str = "") -> None:
        self.name = name
        self._program = ROOT / environment / "bin" / "enginehouse"
        self._made_by = made_by
        self._more = more

    def install(self) -> None:
        """Make the environment what the sources are now."""
        if self._made_by and subprocess.run([ROOT / self._made_by], check=False).returncode:
            raise BenchError(f"{self._made_by} failed, see above")

    def version(self) -> str:
        """As it says."""
        return (
            subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True)
            .stdout.removeprefix("enginehouse ")
            .strip()
        )

    def start(self, processes: Processes, job: Job) -> Started:
        """Start it; with more than one worker each gets a core of its own."""
        port = free_port()
        services = [
            {
                "name": service.name,
                "host": service.host,
                "port": service.port,
                "metadata": {"type": "openai-api", "models": service.models},
            }
            for service in job.services
        ]
        listed = "[\n" + ",\n".join(map(json.dumps, services)) + "\n]\n"
        (job.directory / "services.json").write_text(listed, encoding="utf-8")
        config = _CONFIG.format(
            port=port,
            workers=job.workers,
            services=job.directory / "services.json",
            log=job.directory / "access.log",
            more=self._more,
        )
        (job.directory / "house.toml").write_text(config, encoding="utf-8")
        command = [str(self._program), "router"]
        command += ["--config", str(job.directory / "house.toml")]
        process = processes.start(self.name, command, job.cores)
        wait_for(process, port, 20)
        if job.workers > 1:
            for index, pid in enumerate(workers(process)):
                os.sched_setaffinity(pid, {job.cores[index % len(job.cores)]})
        return Started(process, port, command, {"house.toml": config, "services.json": listed})


def workers(process: Process) -> list[int]:
    """Its worker processes, in the order of their numbers."""
    return sorted(pid for pid in cpu.tree([process.pid]) if "enginehouse.app worker" in cpu.command_line(pid))
