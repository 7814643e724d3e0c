"""The contestants: one file each says how it is installed, configured, started and what it is.

Owns the table of them. May not live here: what they do.
"""

from bench.proxy.contestants.base import Contestant
from bench.proxy.contestants.direct import Direct
from bench.proxy.contestants.enginehouse import Enginehouse
from bench.proxy.contestants.litellm import LiteLLM
from bench.proxy.contestants.nginx import Nginx
from bench.proxy.contestants.rust import RustRouter

_EVERYBODY: tuple[Contestant, ...] = (
    Enginehouse("enginehouse", ".venv-compiled", "scripts/compile"),
    Enginehouse("enginehouse-pure", ".venv"),
    Nginx("nginx"),
    Nginx("nginx-memory", body_memory="4m"),
    RustRouter("vllm-router", ("vllm-router",)),
    RustRouter("sglang-router", ("sglang-router", "launch")),
    LiteLLM(),
    Direct("direct", across=False),
    Direct("direct-across", across=True),
)
ALL = {contestant.name: contestant for contestant in _EVERYBODY}
