"""LiteLLM's proxy: one worker, a list of models, each with the engines that serve it.

Owns its configuration. May not live here: the table of versions (`install`).
"""

from __future__ import annotations

import json

from bench.common import install
from bench.common.processes import Processes, free_port, wait_for
from bench.contestants.base import Job, Started

#: It imports for ten seconds and more.
_STARTS = 90


class LiteLLM:
    """`litellm --config`, without a database, keys or callbacks."""

    name = "litellm"
    counted = "all processes below the started one: one Python process with uvicorn"
    patience = 3
    routing = "by the model in the body, at random among the services that serve it"

    def install(self) -> None:
        """From PyPI, into an environment of its own."""
        install.pypi(self.name)

    def version(self) -> str:
        """The pinned one."""
        return install.PINS[self.name].rpartition("=")[2]

    def start(self, processes: Processes, job: Job) -> Started:
        """Each model of each service is one line of its list; it shuffles among those of a model, its default."""
        port = free_port()
        lines = ["model_list:"]
        for service in job.services:
            for model in service.models:
                parameters = {"model": f"hosted_vllm/{model}", "api_base": f"{service.url}/v1", "api_key": "none"}
                lines.append(f"- {json.dumps({'model_name': model, 'litellm_params': parameters})}")
        text = "\n".join([*lines, "litellm_settings: {telemetry: false}", ""])
        (job.directory / "litellm.yaml").write_text(text, encoding="utf-8")
        command = [str(install.pypi(self.name) / "litellm"), "--config", str(job.directory / "litellm.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        # Its table of prices and tokenizers would otherwise be fetched from the network.
        words = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True", "HF_HUB_OFFLINE=1", "LITELLM_MODE=PRODUCTION", *command]
        process = processes.start(self.name, words, job.cores, job.directory)
        wait_for(process, port, _STARTS)
        return Started(process, port, words, {"litellm.yaml": text})
