"""The names, columns and sentences of the page about routing.

Owns them. May not live here: figures, the order of the page (`routing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.report import words

OURS: Final = "prefix"
LEAST: Final = "least_load"
#: Each peer and the settings with which it took part, its defaults first.
PEERS: Final = {
    "sglang-router": ("sglang-router", "sglang-router-tuned"),
    "vllm-router": ("vllm-router", "vllm-router-tuned"),
}
NAMES: Final = {
    OURS: "Enginehouse, `prefix`",
    LEAST: "Ours, `least_load`",
    "round_robin": "Ours, `round_robin`",
    "sglang-router": "sglang-router",
    "sglang-router-tuned": "sglang-router, tuned",
    "vllm-router": "vllm-router",
    "vllm-router-tuned": "vllm-router, tuned",
    "nginx": "nginx, `least_conn`",
    "cache_aware": "model of `cache_aware`",
    "LMetric": "model of LMetric",
    "loadaware": "model of `loadaware`",
    "formula": "our cost on a perfect index",
    "least requests": "model of least requests",
    "round robin": "model of round robin",
}
LOADS: Final = {
    "conversation": "Conversations (Mooncake), jittered",
    "conversation-raw": "Conversations (Mooncake), in bursts every 3 s",
    "agents": "Agents",
    "hot": "One hot prefix",
    "documents": "Long documents",
    "chats": "Chats (Azure), nothing shared",
    "code": "Code completions (Azure), nothing shared",
}
WHAT: Final = {
    "conversation": "the first 1,500 requests of Mooncake's trace, each moved within its tick of 3 s, ×3.0",
    "conversation-raw": "the same, all requests of a tick at once",
    "agents": "100 sessions of 15 turns, four system prompts of 6,144 tokens; closed loop within a session",
    "hot": "80 % of the requests begin with the same 8,192 tokens, the others share nothing",
    "chats": "the first 1,500 requests of Azure's trace of chats, ×12",
    "an engine is killed, and comes back": "errors: streams cut when it died. No router is told here that these "
    "engines can go on with one another's streams ([failover](retries.md)), so ours says honestly that they broke",
    "an engine is three times as slow": "one of eight, for a third of the load",
}

#: The same loads on the virtual clock, where they are longer.
WHOLE: Final = {
    "conversation": "all 12,031 requests of Mooncake's trace, each moved within its tick of 3 s",
    "agents": "400 sessions of 15 turns: four times as many as over HTTP, more at once than the engines bear",
    "hot": "6,000 requests, 80 % of which begin with the same 8,192 tokens",
    "documents": "750 questions an engine about 400 documents of skewed popularity, more than eight engines can keep",
    "chats": "all of Azure's trace of chats",
    "code": "all of Azure's trace of code completions",
}


def seconds(value: float) -> str:
    """A time of engines: 0.0456 s, 0.777 s, 12.3 s."""
    return f"{words.figures(value)} s"


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def factor(value: float) -> str:
    return f"{value:.2f}"


#: figure → its column, how it is written, whether more is better.
COLUMNS: Final[dict[str, tuple[str, words.Writer, bool]]] = {
    "ttft_mean": ("first token, mean", seconds, False),
    "ttft_p50": ("p50", seconds, False),
    "ttft_p90": ("p90", seconds, False),
    "ttft_p99": ("p99", seconds, False),
    "tpot_mean": ("each further token", words.millis, False),
    "good": ("served well", share, True),
    "hit": ("found in caches", share, True),
    "balance": ("most loaded engine", factor, False),
    "rejected": ("refused", words.count, False),
    "errors": ("errors", words.count, False),
    "router_us": ("router's CPU", words.micros, False),
}
#: Why ours may be behind in a figure, as far as it follows from what the policy does.
WHY: Final = {
    "ttft_mean": "the cost is an estimate made before the request runs; what comes after it is not known",
    "ttft_p50": "a request goes where its own first token is expected soonest, not where the median gains most",
    "ttft_p90": "a request goes where its own first token is expected soonest; nobody waits for the sake of others",
    "ttft_p99": "long prompts that nobody has warm wait behind what is queued; `prefix` does not cut them into parts",
    "tpot_mean": "answers share their engine with more prompts where prefixes gather; the cost counts first tokens",
    "good": "see the times above: a first token within 2 s and 0.1 s for each further one",
    "hit": "a prompt that is warm somewhere still goes elsewhere where it is computed sooner than it would be served",
    "balance": "whoever has a hot prefix gets more of it, as long as that is quicker than computing it elsewhere",
    "router_us": "plain Python (not compiled) that hashes and parses; nginx reads neither body nor prefixes",
}


def name(contestant: str) -> str:
    return NAMES.get(contestant, contestant)


def ordered(contestants: Iterable[str]) -> list[str]:
    """Ours first, then the peers in a settled order, then whoever else."""
    order = list(NAMES)
    return sorted(contestants, key=lambda each: (order.index(each) if each in order else len(order), each))
