"""The two Rust routers, as their own documentation starts them: worker URLs, a policy, metrics as by default.

Owns their commands. May not live here: what they make of them.

Neither routes by model in this mode: any worker may get any request. What logs they write by default go to their
standard output, which is a file here.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.common import install
from bench.common.processes import Processes, free_port, wait_for
from bench.contestants.base import Job, Started

#: Both look at their workers before they listen, a thousand of them one after another. Seconds.
_STARTS = 60


class RustRouter:
    """`vllm-router` or `sglang-router launch`."""

    counted = "all processes below the started one: Python as launcher, in which the Rust router runs with its threads"
    patience = 1

    def __init__(
        self,
        package: str,
        words: Sequence[str],
        name: str = "",
        options: Sequence[str] = ("--policy", "round_robin"),
        routing: str = "in turn, whatever the model",
    ) -> None:
        """`words`: the program of its environment and what stands before the options. `name`: "" for the package's."""
        self.name = name or package
        self.routing = routing
        self._package = package
        self._words = words
        self._options = options

    def install(self) -> None:
        """From PyPI, into an environment of its own."""
        install.pypi(self._package)

    def version(self) -> str:
        """The pinned one."""
        return install.PINS[self._package].rpartition("=")[2]

    def start(self, processes: Processes, job: Job) -> Started:
        """With as many threads as it chooses for the cores it may use."""
        port, metrics = free_port(), free_port()
        program, *rest = self._words
        command = [str(install.pypi(self._package) / program), *rest, "--host", "127.0.0.1", "--port", str(port)]
        command += [*self._options, "--prometheus-port", str(metrics), "--worker-urls"]
        urls = [service.url for service in job.services]
        process = processes.start(self.name, [*command, *urls], job.cores, job.directory)
        wait_for(process, port, _STARTS)
        shown = urls if len(urls) < 4 else [*urls[:2], f"… and {len(urls) - 2} more"]
        return Started(process, port, [*command, *shown], {}, (metrics,))
