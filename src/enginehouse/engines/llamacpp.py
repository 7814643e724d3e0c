"""llama.cpp's own HTTP server, in this process, through the prebuilt `xllamacpp` wheel.

Owns: the flags (named as llama-server's), the small defaults, and how this process stops.
May not live here: where models come from (see `models`), restarting, registration (the babysitter's).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from enginehouse.engines import models

STOP_TIMEOUT = 10.0
"""Seconds. A llama.cpp server with a request in its queue never ends by itself on one SIGTERM."""
FIRST_ANSWER_TIMEOUT = 10.0
"""Seconds that a server with a loaded model gets to answer for the first time."""


def parser() -> argparse.ArgumentParser:
    """The command line. Where llama-server has the flag, the name and the meaning are its own."""
    made = argparse.ArgumentParser(prog="python -m enginehouse.engines.llamacpp", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("-m", "--model", required=True, help=f"a GGUF file, or one of: {', '.join(models.SOURCES)}")
    add("--cache", type=Path, default=models.default_cache(), help="folder for made models (%(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=8080, help="port to listen on; 0: the system chooses (%(default)s)")
    add("-a", "--alias", help="the model's name in /v1/models (the file's name)")
    add("-t", "--threads", type=int, default=1, help="threads that compute (%(default)s)")
    add("-c", "--ctx-size", type=int, default=4096, help="tokens of context, shared by the slots (%(default)s)")
    add("-np", "--parallel", type=int, default=1, help="slots: requests answered at the same time (%(default)s)")
    add("-b", "--batch-size", type=int, default=256, help="tokens of a prompt computed at once (%(default)s)")
    add("--cache-ram", type=int, default=64, help="MiB of prompts kept in memory (%(default)s)")
    add("--sse-ping-interval", type=int, default=1, help="seconds between comments in a silent stream (%(default)s)")
    add("--sleep-idle-seconds", type=int, default=-1, help="free the model's memory after so long; -1: never")
    add("--embedding", action="store_true", help="serve /v1/embeddings")
    add("--rerank", action="store_true", help="serve /v1/rerank")
    add("--metrics", action="store_true", help="serve /metrics")
    add("--slots", action="store_true", help="serve /slots (it shows prompts)")
    add("--api-key", action="append", default=[], help="required of clients; seen in the process list, so better:")
    add("--api-key-file", type=Path, help="file with one key a line (or the environment's LLAMA_API_KEY)")
    add("--stop-timeout", type=float, default=STOP_TIMEOUT, help="seconds from SIGTERM to the end (%(default)g)")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop. Returns 1 for a model that cannot be loaded or a port in use, 3 without a package."""
    given = parser().parse_args(arguments)
    try:
        path = models.find(given.model, given.cache) if given.model in models.SOURCES else Path(given.model)
        library = _library()
        keys = _api_keys(given)
    except models.MissingPackage as error:
        print(error, file=sys.stderr)
        return models.EXIT_MISSING
    except OSError as error:
        print(f"cannot read or write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if not path.is_file():
        print(f"there is no model file {path}; names that need no file: {', '.join(models.SOURCES)}", file=sys.stderr)
        return 1
    # Nothing runs while the model loads: until it is there the default action of SIGTERM, ending at once, is right.
    try:
        server = library.Server(parameters(library, path, given, keys))
    except RuntimeError as error:
        print(f"llama.cpp cannot serve {path.name} on {given.host}:{given.port}: {error}", file=sys.stderr)
        return 1
    told = _signals()
    _ask_once(server.listening_address, keys)
    print(f"listening on {server.listening_address}", flush=True)
    told.read(1)
    _bound_the_end(given.stop_timeout)
    return 0


def parameters(library: Any, path: Path, given: argparse.Namespace, keys: list[str]) -> Any:
    """The library's parameter object for the flags given."""
    made = library.CommonParams()
    made.model.path = str(path)
    made.model_alias = {given.alias} if given.alias else set()
    made.hostnames, made.port, made.api_keys = [given.host], given.port, keys
    made.n_ctx, made.n_parallel = given.ctx_size, given.parallel
    made.cpuparams.n_threads = made.cpuparams_batch.n_threads = given.threads
    made.cache_ram_mib, made.sse_ping_interval = given.cache_ram, given.sse_ping_interval
    made.sleep_idle_seconds = given.sleep_idle_seconds
    made.endpoint_metrics, made.endpoint_slots = given.metrics, given.slots
    if given.embedding or given.rerank:
        made.embedding = True  # one input has to fit into one batch, so the batch stays as large as the library's own
    else:
        made.n_batch, made.n_ubatch = given.batch_size, min(made.n_ubatch, given.batch_size)
    if given.rerank:
        made.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    return made


def _api_keys(given: argparse.Namespace) -> list[str]:
    lines = given.api_key_file.read_text().splitlines() if given.api_key_file else []
    keys = [*given.api_key, *(line.strip() for line in lines if line.strip())]
    return keys or [key for key in [os.environ.get("LLAMA_API_KEY", "")] if key]


def _library() -> Any:
    try:
        return importlib.import_module("xllamacpp")
    except ImportError:
        raise models.MissingPackage("llama.cpp's server", "--no-deps", "xllamacpp") from None


def _ask_once(address: str, keys: list[str]) -> None:
    """Wait until the server's main loop answers: a server told to stop before it turns never ends."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=FIRST_ANSWER_TIMEOUT)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        # The cheapest path that goes through that loop.
        connection.request("GET", "/lora-adapters", headers={"Authorization": f"Bearer {keys[0]}"} if keys else {})
        connection.getresponse().read()


def _signals() -> BinaryIO:
    """What becomes readable with the first SIGTERM or SIGINT.

    Waiting in `signal.pause` is not enough: a signal just before it, or one that the system delivers to one of the
    server's own threads, would not end it.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return os.fdopen(readable, "rb", buffering=0)


def _bound_the_end(timeout: float) -> None:
    """From here on running requests may end, for at most `timeout` seconds; a second signal ends at once.

    The bound is the kernel's alarm: the server's destructor, which runs when the interpreter ends, holds the
    interpreter's lock and can wait for ever on an open request, so no Python code could keep it.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(timeout, 0.001))


if __name__ == "__main__":
    sys.exit(main())
