"""Who takes part in the contest over HTTP.

Owns the table of them and the settings of the peers. May not live here: what they do (`bench.contestants`).

The tuned settings: a tree no larger than the engines' caches together (8 × 421,000 tokens × 4 bytes); and for
sglang-router locality given up sooner, where loads differ by few requests. vllm-router is the worse for that: of eleven
settings tried on the conversations at the knee (trees of two sizes, differences of 8 to 1000 requests, thresholds of
0.1 to 0.5, power_of_two) none did better than its defaults, and the one that came nearest is taken.
"""

from __future__ import annotations

from bench.contestants.base import Contestant
from bench.contestants.enginehouse import Enginehouse
from bench.contestants.nginx import Nginx
from bench.contestants.rust import RustRouter

_DEFAULT = ("--policy", "cache_aware")
_LESS = ("--balance-abs-threshold", "8", "--balance-rel-threshold", "1.2", "--cache-threshold", "0.3")
_TREE = ("--max-tree-size", "13500000", "--eviction-interval-secs", "5")
_SGLANG = ("sglang-router", "launch")
_BY_TREE = "cache_aware, its default: by one tree of characters, by least requests where loads differ much"

#: Ours under each policy; the first is what is compared.
OURS = ("prefix", "least_load", "round_robin")
_EVERYBODY: tuple[Contestant, ...] = (
    *(Enginehouse(policy, ".venv", more=f'policy = "{policy}"') for policy in OURS),
    RustRouter("sglang-router", _SGLANG, options=_DEFAULT, routing=_BY_TREE),
    RustRouter(
        "sglang-router",
        _SGLANG,
        "sglang-router-tuned",
        (*_DEFAULT, *_LESS, *_TREE),
        "cache_aware with a tree as large as the caches, balancing from a difference of 8 requests",
    ),
    RustRouter("vllm-router", ("vllm-router",), options=_DEFAULT, routing=_BY_TREE),
    RustRouter(
        "vllm-router",
        ("vllm-router",),
        "vllm-router-tuned",
        (*_DEFAULT, "--cache-threshold", "0.2", *_TREE),
        "cache_aware with a tree as large as the caches, and from a match of 0.2 on",
    ),
    Nginx("nginx", balance="least_conn", body_memory="4m"),
)
ALL = {contestant.name: contestant for contestant in _EVERYBODY}
#: Each peer that is compared, by its settings.
PEERS = {"sglang-router": ("sglang-router", "sglang-router-tuned"), "vllm-router": ("vllm-router", "vllm-router-tuned")}
