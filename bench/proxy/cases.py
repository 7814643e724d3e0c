"""The cases: what is sent, to how many services, through whom.

Owns `Case` and the table. May not live here: how a kind of load is made (`measure`), order and repetition (`plan`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from bench.proxy.wrk import How

ENGINEHOUSE, PURE, NO_FAILOVER = "enginehouse", "enginehouse-pure", "enginehouse-no-failover"
NGINX, NGINX_MEMORY = "nginx", "nginx-memory"
VLLM, SGLANG, LITELLM = "vllm-router", "sglang-router", "litellm"
DIRECT, ACROSS = "direct", "direct-across"

_FAST = (ENGINEHOUSE, NGINX, VLLM, SGLANG)
#: LiteLLM takes 200 times nginx's CPU: two cases tell that, all of them would take an hour.
_ALL = (*_FAST, LITELLM)

Kind = Literal["json", "stream", "latency", "find"]


class Case(NamedTuple):
    """One line of the table."""

    name: str
    kind: Kind
    contestants: tuple[str, ...]
    """Those it is for, of those that can be had."""
    connections: int = 64
    body: int = 600
    """Bytes of a request's body, roughly."""
    bodies: int = 64
    """How many different ones."""
    services: int = 2
    models: int = 8
    workers: int = 1
    how: How = "keep"
    """What becomes of connections and heads (see `wrk.How`)."""
    chunks: int = 0
    """Of each answer; 0: without an end."""
    interval: float = 0.0
    """Seconds between two chunks of a stream; 0: as fast as the backend's rate allows."""
    seconds: int = 0
    """Of load at least, whatever is asked for."""
    fresh: bool = False
    """Started anew for every run, because memory is measured."""
    unpinned: bool = False
    """Load and backend run on any core, because the contestants take both."""
    text: str = ""
    """What the bodies are made of, where that is the question."""

    @property
    def unit(self) -> str:
        """What the CPU time is divided by."""
        if self.streaming:
            return "chunk"
        if self.kind == "find":
            return "body"
        return "connection" if self.how == "close" else "request"

    @property
    def streaming(self) -> bool:
        """Are the answers streams?"""
        return self.kind == "stream"


CASES = (
    Case("json-1", "json", _FAST, connections=1),
    Case("json-64", "json", (*_ALL, PURE)),
    Case("json-64-new-heads", "json", (*_FAST, PURE), how="new"),
    Case("json-512", "json", _FAST, connections=512),
    Case("sse-64", "stream", (*_ALL, PURE, NO_FAILOVER), chunks=100),
    Case("sse-512", "stream", _FAST, connections=512, chunks=100),
    Case("streams-1000", "stream", (*_FAST, NO_FAILOVER), connections=1000, interval=0.05, seconds=5, fresh=True),
    Case("streams-4000", "stream", _FAST, connections=4000, interval=0.05, seconds=5, fresh=True),
    Case("body-1k", "json", (*_FAST, NGINX_MEMORY), body=1 << 10),
    Case("body-64k", "json", (*_FAST, NGINX_MEMORY), body=64 << 10, bodies=16),
    Case("body-1m", "json", (*_FAST, NGINX_MEMORY), body=1 << 20, bodies=8, connections=16),
    Case("services-2", "json", _FAST, models=200, bodies=200),
    Case("services-100", "json", _FAST, services=100, models=200, bodies=200),
    Case("services-1000", "json", _FAST, services=1000, models=200, bodies=200),
    Case("workers-1", "json", _FAST, unpinned=True),
    Case("workers-2", "json", _FAST, workers=2, unpinned=True),
    Case("connections", "json", _FAST, how="close"),
    Case("latency", "latency", (*_FAST, DIRECT, ACROSS), connections=1),
    Case("find-model-1m", "find", (ENGINEHOUSE,), body=1 << 20, text="text"),
    Case("find-model-1m-tokens", "find", (ENGINEHOUSE,), body=1 << 20, text="tokens"),
    Case("find-model-1m-escapes", "find", (ENGINEHOUSE,), body=1 << 20, text="escapes"),
)
#: Its name; it is no line of the table, because nobody else takes part and nothing is repeated.
SOAK = "soak"
BY_NAME = {case.name: case for case in CASES}
