"""Who takes part in the bench of the proxies.

Owns the table of them. May not live here: what they do (`bench.contestants`).
"""

from bench.contestants.base import Contestant
from bench.contestants.enginehouse import Enginehouse
from bench.contestants.litellm import LiteLLM
from bench.contestants.nginx import Nginx
from bench.contestants.rust import RustRouter
from bench.proxy.direct import Direct

_EVERYBODY: tuple[Contestant, ...] = (
    Enginehouse("enginehouse", ".venv-compiled", "scripts/compile"),
    Enginehouse("enginehouse-pure", ".venv"),
    Enginehouse("enginehouse-no-failover", ".venv-compiled", "scripts/compile", "failover = false"),
    Nginx("nginx"),
    Nginx("nginx-memory", body_memory="4m"),
    RustRouter("vllm-router", ("vllm-router",)),
    RustRouter("sglang-router", ("sglang-router", "launch")),
    LiteLLM(),
    Direct("direct", across=False),
    Direct("direct-across", across=True),
)
ALL = {contestant.name: contestant for contestant in _EVERYBODY}
