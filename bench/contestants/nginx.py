"""nginx as a reverse proxy: the yardstick. It routes by nothing but turn.

Owns its configuration. May not live here: the backend, which is another nginx.
"""

from __future__ import annotations

import subprocess

from bench.common import install
from bench.common.nginx import base, nginx_command, start_nginx, temporary_paths
from bench.common.processes import Processes, free_port
from bench.contestants.base import Job, Started

_CONFIG = """\
{base}
http {{
    {paths}
    log_format bench '$remote_addr [$time_iso8601] "$request" $status $bytes_sent $request_time '
                     '$upstream_addr $request_id';
    access_log access.log bench buffer=64k flush=1s;
    keepalive_requests 1000000000;
    upstream engines {{
        {balance}
{servers}
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        client_max_body_size 64m;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
            add_header X-Request-Id $request_id always;
            {extra}
        }}
    }}
}}
"""


class Nginx:
    """nginx, with its own default buffering of request bodies or with enough memory for them."""

    counted = "all processes below the started one: master and workers"
    patience = 1

    def __init__(self, name: str, body_memory: str = "", balance: str = "") -> None:
        """`body_memory`: `client_body_buffer_size`, "" for the default of 16k, beyond which bodies go to a file.
        `balance`: the directive of its method, "" for turns."""
        self.name = name
        self.routing = f"{balance or 'in turn'}, whatever the model"
        self._body_memory = body_memory
        self._balance = balance

    def install(self) -> None:
        """From Debian."""
        install.debian("nginx")

    def version(self) -> str:
        """As it says."""
        said = subprocess.run([install.found("nginx"), "-v"], capture_output=True, text=True, check=True).stderr
        return said.rpartition("/")[2].strip()

    def start(self, processes: Processes, job: Job) -> Started:
        """One worker process for each asked for."""
        port = free_port()
        extra = ["proxy_buffering off;"] if job.streaming else []
        if self._body_memory:
            extra.append(f"client_body_buffer_size {self._body_memory};")
        affinity = ""
        if job.workers > 1:
            masks = " ".join(format(1 << core, f"0{max(job.cores) + 1}b") for core in job.cores)
            affinity = f"worker_cpu_affinity {masks};\n"
        text = _CONFIG.format(
            base=affinity + base(job.workers),
            paths=temporary_paths(),
            balance=f"{self._balance};" if self._balance else "",
            servers="\n".join(f"        server {service.host}:{service.port};" for service in job.services),
            port=port,
            extra="\n            ".join(extra),
        )
        process = start_nginx(processes, self.name, text, port, job.cores, job.directory)
        return Started(process, port, nginx_command(job.directory), {"nginx.conf": text})
