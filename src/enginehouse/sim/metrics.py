"""`/metrics` of a simulated engine that has a model, under vLLM's names.

Owns the text. May not live here: what is counted (`batching`, `paced`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from enginehouse.sim.paced import TTFT_BUCKETS, Paced

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def text(paced: Paced, model: str) -> bytes:
    """Prometheus' text format. Times are the model's seconds."""
    return "".join(_lines(paced, model)).encode()


def _lines(paced: Paced, name: str) -> Iterator[str]:
    model = paced.model
    usage = model.cache.used / model.cache.capacity
    labels = f'engine="0",model_name="{name}"'

    def one(kind: str, metric: str, value: float, more: str = "") -> str:
        full = f"vllm:{metric}_total" if kind == "counter" else f"vllm:{metric}"
        return f"# TYPE vllm:{metric} {kind}\n{full}{{{labels}{more}}} {value}\n"

    yield one("gauge", "num_requests_running", model.running)
    yield one("gauge", "num_requests_waiting", model.waiting)
    yield one("gauge", "kv_cache_usage_perc", usage)
    yield one("gauge", "gpu_cache_usage_perc", usage)
    yield one("counter", "prefix_cache_queries", model.prompt_tokens)
    yield one("counter", "prefix_cache_hits", model.cached_tokens)
    yield one("counter", "num_preemptions", model.preemptions)
    yield one("counter", "prompt_tokens", model.prompt_tokens)
    yield one("counter", "generation_tokens", model.generated(paced.now()))
    yield one("counter", "request_success", paced.finished, ',finished_reason="length"')
    size, blocks = model.constants.block_size, model.constants.blocks
    cache = f',block_size="{size}",enable_prefix_caching="True",num_gpu_blocks="{blocks}"'
    yield one("gauge", "cache_config_info", 1.0, cache)
    yield from _ttft(paced, labels)


def _ttft(paced: Paced, labels: str) -> Iterator[str]:
    metric = "vllm:time_to_first_token_seconds"
    yield f"# TYPE {metric} histogram\n"
    counts = list(accumulate(paced.ttft_counts))
    for bound, count in zip([*map(str, TTFT_BUCKETS), "+Inf"], counts, strict=True):
        yield f'{metric}_bucket{{{labels},le="{bound}"}} {count}\n'
    yield f"{metric}_sum{{{labels}}} {paced.ttft_sum}\n{metric}_count{{{labels}}} {counts[-1]}\n"
