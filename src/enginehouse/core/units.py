"""Sizes and the bounds that more than one part relies on.

Owns: byte units and the numbers every process must agree on. May not live here: anything configurable.
"""

KIB = 1024
MIB = 1024 * KIB

#: Services a house may hold: rows of the shared tables (about 200 bytes a service and worker).
MAX_SERVICES = 4096
#: Worker processes on one host: rows of the shared tables. Half of them may be configured: while workers are replaced,
#: each successor has a row of its own beside the one that still finishes.
MAX_WORKERS = 128
#: Bytes of one service record as JSON, metadata included; a vLLM model list of 200 adapters is 40 KiB.
MAX_RECORD = 256 * KIB
#: Models one service may list.
MAX_MODELS = 1000
#: Tokens that an engine's KV cache may be said to hold.
MAX_KV_TOKENS = 1 << 40
#: Characters of a model id.
MAX_MODEL_ID = 512
