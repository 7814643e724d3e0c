"""The loads by name: where their requests come from, how fast the clock runs over HTTP, at which rates they are tried.

Owns the table of loads and where the published traces lie. May not live here: drawing a load (`workloads`,
`enginehouse.replay.workloads`), playing it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from bench.routing.workloads import documents
from enginehouse.replay.schedule import faster, jittered
from enginehouse.replay.traces import Trace, read
from enginehouse.replay.workloads import Agents, Hot, make

#: Requests of a load over HTTP.
REQUESTS = 1500
CONVERSATION, CHATS, CODE = "mooncake_conversation.jsonl", "azure2023_conv.csv", "azure2023_code.csv"
#: Where each is published.
SOURCES = {
    CONVERSATION: "github.com/kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl (Apache-2.0)",
    CHATS: "github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv (CC-BY; Splitwise, ISCA '24)",
    CODE: "github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace_code.csv (CC-BY; Splitwise, ISCA '24)",
}


class Load(NamedTuple):
    """One load. `rate` multiplies its requests, or the sessions that begin, in a second."""

    title: str
    knee: float
    """The rate at which it is compared: for the conversations where the best just serve nine of ten well; see docs."""
    rates: tuple[float, ...]
    """Those of the sweep."""
    time_scale: float
    """Seconds of the engines' time in a real second over HTTP: small where first tokens come within milliseconds."""
    make: Callable[[Path, int, int], Trace]
    """(folder of traces, requests at most or 0 for all, seed) -> the trace at rate 1."""
    file: str = ""
    """The trace it needs, "" for none."""

    def trace(self, folder: Path, rate: float, seed: int, requests: int = REQUESTS) -> Trace:
        """The load as it is played."""
        return faster(self.make(folder, requests, seed), rate)


def _spread(file: str) -> Callable[[Path, int, int], Trace]:
    """A published trace whose requests come anywhere between two ticks of its clock."""
    return lambda folder, requests, seed: jittered(_first(folder, file, requests), Random(seed))


def _first(folder: Path, file: str, requests: int) -> Trace:
    trace = read(folder / file)
    return trace.first(requests) if requests else trace


def _agents(_folder: Path, requests: int, seed: int) -> Trace:
    shape = Agents(
        sessions=(requests or 6000) // 15, turns=15, rate=1.0, system=6144, first=2048, input=1500, delay=3.0
    )
    return make(shape, Random(seed))


def _hot(_folder: Path, requests: int, seed: int) -> Trace:
    return make(Hot(requests=requests or 6000, rate=1.0), Random(seed))


def _documents(_folder: Path, requests: int, seed: int) -> Trace:
    return documents(requests or 6000, 1.0, seed)


LOADS = {
    "conversation": Load(
        "Mooncake's conversations, jittered", 3.0, (2.2, 2.6, 3.0, 3.4), 8.0, _spread(CONVERSATION), CONVERSATION
    ),
    "conversation-raw": Load(
        "Mooncake's conversations, in the bursts of their 3 s clock",
        3.0,
        (2.2, 2.6, 3.0, 3.4),
        8.0,
        lambda folder, requests, _seed: _first(folder, CONVERSATION, requests),
        CONVERSATION,
    ),
    "agents": Load("100 agents, 15 turns each, four tools", 4.0, (1.0, 2.0, 4.0, 8.0), 3.0, _agents),
    "hot": Load("one prefix of 8,192 tokens in 80 % of requests", 24.0, (12.0, 18.0, 24.0, 30.0, 36.0), 3.0, _hot),
    "documents": Load("long documents that many ask about", 14.0, (8.0, 11.0, 14.0, 17.0), 5.0, _documents),
    "chats": Load("Azure's chats, nothing shared", 12.0, (8.0, 12.0, 16.0, 20.0), 2.0, _spread(CHATS), CHATS),
    "code": Load("Azure's code completions, nothing shared", 6.0, (4.0, 5.0, 6.0, 7.0), 3.0, _spread(CODE), CODE),
}
