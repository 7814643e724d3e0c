"""Nobody between client and backend: what a time is compared with.

Owns nothing but that. May not live here: any proxy.
"""

from __future__ import annotations

from bench.common.processes import Processes
from bench.contestants.base import Job, Started
from bench.proxy import backend


class Direct:
    """The backend itself: beside the client on one core, or another one where the proxies are, across to their core."""

    counted = "nothing: the backend's own time is not measured"
    patience = 1
    routing = "none"

    def __init__(self, name: str, across: bool) -> None:
        """`across`: every wake-up then crosses to the other core, as it does twice for whoever goes through a proxy."""
        self.name = name
        self._across = across

    def install(self) -> None:
        """Nothing to do."""

    def version(self) -> str:
        """None."""
        return ""

    def start(self, processes: Processes, job: Job) -> Started:
        """The one that runs already, or one more."""
        process, port = job.backend, job.services[0].port
        if self._across:
            models = [model for service in job.services for model in service.models]
            process, port = backend.start(processes, models, job.cores, job.directory)
        return Started(process, port, ("(the backend)",), {}, counted=False)
