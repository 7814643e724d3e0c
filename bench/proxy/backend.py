"""The engine behind every contestant: one nginx that answers at once, on every address of 127.0.0.0/8.

Owns its configuration and start. May not live here: contestants, streaming (`stream_backend`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.common.nginx import base, start_nginx, temporary_paths
from bench.common.processes import Process, Processes, free_port, wait_for

#: What an engine answers to a short chat: 588 bytes in vLLM's shape.
ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion",
        "created": 1763800000,
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "The quick brown fox jumps over the lazy dog, and some more words follow, so that this "
                    "is an answer as short ones are.",
                    "refusal": None,
                    "tool_calls": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 42,
            "total_tokens": 72,
            "completion_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    },
    separators=(",", ":"),
)

_NAMED = 20

# `return` alone would answer before the body has come, as no engine does: reading it for a mirror that goes nowhere
# makes nginx read all of it first.
_CONFIG = """\
{base}
http {{
    {paths}
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_buffer_size 4m;
    client_max_body_size 64m;
    default_type application/json;
    server {{
        listen {port} backlog=4096;
        location = /v1/chat/completions {{ mirror /read; try_files /none @answer; }}
        location @answer {{ return 200 '{answer}'; }}
        location = /read {{ internal; return 204; }}
        location = /health {{ return 200 '{{}}'; }}
        location = /v1/models {{ return 200 '{models}'; }}
        location = /get_model_info {{ return 200 '{{"model_path":"{first}","tokenizer_path":"{first}"}}'; }}
        location = /get_server_info {{ return 200 '{{"model_path":"{first}","served_model_name":"{first}"}}'; }}
        location / {{ return 404 '{{"detail":"Not Found"}}'; }}
    }}
}}
"""


def config(port: int, models: Sequence[str]) -> str:
    """The text of its nginx.conf. Of the models it names a few: a parameter of nginx holds 4 KB."""
    some = [{"id": model, "object": "model", "owned_by": "vllm"} for model in models[:_NAMED]]
    listed = {"object": "list", "data": some}
    return _CONFIG.format(
        base=base(1),
        paths=temporary_paths(),
        port=port,
        answer=ANSWER,
        models=json.dumps(listed, separators=(",", ":")),
        first=models[0],
    )


def start(processes: Processes, models: Sequence[str], cores: Sequence[int], prefix: Path) -> tuple[Process, int]:
    """Start the backend of requests answered at once; its process and port."""
    port = free_port()
    return start_nginx(processes, "backend", config(port, models), port, cores, prefix), port


def start_streaming(processes: Processes, models: Sequence[str], cores: Sequence[int]) -> tuple[Process, int]:
    """Start the backend of streams; its process and port."""
    port = free_port()
    command = [sys.executable, "-m", "bench.proxy.stream_backend", "--host", "0.0.0.0", "--port", str(port)]
    process = processes.start("stream-backend", [*command, "--models", ",".join(models)], cores)
    wait_for(process, port, 20)
    return process, port
