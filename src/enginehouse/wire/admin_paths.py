"""Paths by which an engine is administered: whoever can call them can stop, empty, reprogram or read it.

Owns the list, made from the route tables of vLLM, SGLang and llama.cpp as of November 2026.
May not live here: what is done about them (`paths`).
"""

from __future__ import annotations

_NAMES = """
lora-adapters hicache dumper tools cors-proxy rpc collective_rpc fault_tolerance configure_logging set_internal_state

sleep wake_up is_sleeping pause resume is_paused pause_generation continue_generation shutdown slow_down
scale_elastic_ep is_scaling_elastic_ep open_session close_session

reset_prefix_cache reset_mm_cache reset_encoder_cache flush_cache clear_hicache_storage_backend
release_memory_occupation resume_memory_occupation freeze_gc get_world_size

start_profile stop_profile server_info get_server_info get_internal_state slots streams metrics
start_expert_distribution_record stop_expert_distribution_record dump_expert_distribution_record
"""
#: First segments of paths: calls into the engine; sleep, stop and scale; caches and memory; and what lets one look
#: inside, where prompts, paths and keys are. All that lies below them is administrative too.
HEADS = frozenset(_NAMES.split())
#: Words in a first segment: `update_weights_from_disk`, `load_lora_adapter`, `abort_requests` and their many relatives.
WORDS = ("weight", "lora_adapter", "abort_request")
WHOLE = frozenset(("models/load", "models/unload", "models/sse", "chat/completions/control"))
_READ = (b"GET", b"HEAD")


def is_administrative(method: bytes, path: str) -> bool:
    """Whether `path` (decoded, in normal form) is one, in any letter case, with `/v1` before it or without."""
    name = path.casefold().strip("/").removeprefix("v1/")
    head = name.partition("/")[0]
    if head in HEADS or name in WHOLE or any(word in head for word in WORDS):
        return True
    return head == "props" and method not in _READ
