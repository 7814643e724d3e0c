"""Paths by which an engine is administered: whoever can call them can stop, empty, reprogram or read it.

Owns the list, from FIELD's and the engines' own route tables (vLLM, SGLang, llama.cpp; November 2026).
May not live here: what is done about them (`paths`).
"""

from __future__ import annotations

_NAMES = """
load_lora_adapter unload_lora_adapter load_lora_adapter_from_tensors lora-adapters models/load models/unload models/sse

sleep wake_up is_sleeping pause resume is_paused pause_generation continue_generation shutdown slow_down
scale_elastic_ep is_scaling_elastic_ep

reset_prefix_cache reset_mm_cache reset_encoder_cache flush_cache clear_hicache_storage_backend hicache
release_memory_occupation resume_memory_occupation freeze_gc

get_weights_by_name send_weights_to_remote_instance weights_checker get_world_size init_weight_transfer_engine

collective_rpc rpc open_session close_session configure_logging set_internal_state cors-proxy tools

start_profile stop_profile server_info get_server_info get_internal_state slots streams metrics
start_expert_distribution_record stop_expert_distribution_record dump_expert_distribution_record
"""
#: Adapters and models; sleep, stop and scale; caches and memory; weights; calls into the engine; and what lets one look
#: inside, where prompts, paths and keys are.
_ADMINISTRATIVE = frozenset(_NAMES.split())
_BEGINNINGS = (
    "update_weight",
    "init_weights",
    "destroy_weights",
    "abort_request",
    "slots/",
    "lora-adapters/",
    "hicache/",
    "dumper/",
    "tools/",
    "rpc/",
    "metrics/",
)
_READ = (b"GET", b"HEAD")


def is_administrative(method: bytes, path: str) -> bool:
    """Whether `path` (decoded, in normal form, no trailing slash) is one, in any letter case, with `/v1` or without."""
    name = path.casefold().removeprefix("/").removeprefix("v1/").rstrip("/")
    if name in _ADMINISTRATIVE or name.startswith(_BEGINNINGS):
        return True
    return name == "props" and method not in _READ
