"""How many tokens the KV cache of an engine holds, as far as it says so: what the index of its prefixes is sized by.

Owns `KvCaches`: which paths are asked, how their answers are read, and how seldom (a probe that finds an engine well is
the occasion). May not live here: how an engine is reached (`engine_client`), what follows from a capacity (`policy`).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import msgspec

from enginehouse.control.engine_client import Answer
from enginehouse.control.roster import Entry
from enginehouse.core.config.base import ConfigError
from enginehouse.core.units import MAX_KV_TOKENS

#: Seconds between two readings of an engine that stays up: only a restart changes what it says.
INTERVAL: Final = 300.0
#: Seconds that one reading may take, with all its paths.
DEADLINE: Final = 20.0
#: Readings under way at once, over all services.
MAX_READINGS: Final = 16

#: A sample with its labels, whose values may hold anything but the end of a line.
_SAMPLE = re.compile(
    rb'^(vllm:cache_config_info|sglang:max_total_num_tokens)(?:\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\})? (\S+)',
    re.MULTILINE,
)
_LABEL = re.compile(rb'(\w+)="((?:[^"\\\n]|\\.)*)"')

log = logging.getLogger(__name__)


class KvCaches:
    """Asks engines for their capacity, beside everything else. `told()` is called when one says another than before."""

    def __init__(self, get: Callable[[Entry, str], Awaitable[Answer]], told: Callable[[], None]) -> None:
        self._get = get
        self._told = told
        self._gate = asyncio.Semaphore(MAX_READINGS)
        self._readings: dict[Entry, asyncio.Task[None]] = {}

    def well(self, entry: Entry, now: float) -> None:
        """It was found well: it is asked, unless that was done lately or its owner told. `now`: monotonic seconds."""
        if entry.record.metadata.get("kv_tokens") or entry in self._readings or now < entry.ask_kv_at:
            return
        entry.ask_kv_at = now + INTERVAL
        reading = self._readings[entry] = asyncio.create_task(self._read(entry))
        reading.add_done_callback(lambda _: self._readings.pop(entry, None))

    def ill(self, entry: Entry) -> None:
        """It was not: perhaps it starts again, with another capacity."""
        entry.ask_kv_at = 0.0

    async def close(self) -> None:
        """Stop asking."""
        readings = list(self._readings.values())
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)

    async def _read(self, entry: Entry) -> None:
        try:
            async with asyncio.timeout(DEADLINE), self._gate:
                tokens = await self._ask(entry)
        except (aiohttp.ClientError, OSError, ValueError, ConfigError):
            return  # what it said before stays; whether it is well, others find out
        except Exception:  # a bug in reading one engine is that engine's trouble only
            log.exception("the capacity of %s could not be read in an unforeseen way", entry.name)
            return
        if tokens != entry.kv_tokens:
            entry.kv_tokens = tokens
            self._told()

    async def _ask(self, entry: Entry) -> int:
        """The first answer that tells; 0 where none does."""
        for path, read in _READERS:
            answer = await self._get(entry, path)
            if answer.ok and 0 < (tokens := read(answer.body)) <= MAX_KV_TOKENS:
                return tokens
        return 0


def from_metrics(body: bytes) -> int:
    """Tokens out of the metrics of vLLM or SGLang (Prometheus text), 0 where they do not tell.

    With data parallelism each engine of vLLM, and each rank of SGLang, has its own sample. vLLM's
    `kv_cache_size_tokens` goes before blocks × block size, which for hybrid models is not the same.
    """
    total = 0
    for name, labels, value in _SAMPLE.findall(body):
        if name.startswith(b"sglang"):
            total += _number(value)
            continue
        told = dict(_LABEL.findall(labels))
        size = _number(told.get(b"kv_cache_size_tokens", b""))
        total += size or _number(told.get(b"num_gpu_blocks", b"")) * _number(told.get(b"block_size", b""))
    return total


def from_server_info(body: bytes) -> int:
    """Tokens out of SGLang's `/server_info`, 0 where it does not tell."""
    told = _json(body)
    ranks = told.get("internal_states")
    states = [rank for rank in ranks if isinstance(rank, dict)] if isinstance(ranks, list) else []
    memory = [state.get("memory_usage") for state in states]
    by_rank = sum([_whole(each.get("token_capacity")) for each in memory if isinstance(each, dict)])
    return by_rank or _whole(told.get("max_total_num_tokens"))


def from_props(body: bytes) -> int:
    """Tokens out of llama.cpp's `/props`: a slot's context times the slots; 0 where it does not tell."""
    told = _json(body)
    settings = told.get("default_generation_settings")
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    return _whole(context) * _whole(told.get("total_slots"))


_READERS: Final[tuple[tuple[str, Callable[[bytes], int]], ...]] = (
    ("/metrics", from_metrics),
    ("/server_info", from_server_info),
    ("/get_server_info", from_server_info),  # SGLang before 2026
    ("/props", from_props),
)


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _number(text: bytes) -> int:
    """A sample's value or a label's, 0 for `None`, `NaN` and the like."""
    try:
        return max(0, int(float(text)))
    except (ValueError, OverflowError):
        return 0
