"""How fast and how large a simulated engine is: published constants, under names.

Owns the formula for the time of a step and the profiles. May not live here: which requests are in a step (`batching`).
"""

from __future__ import annotations

from dataclasses import dataclass

MS = 0.001


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds that one pass of the model takes, as a polynomial of what is in it.

    A step always costs `fixed`; `per_sequence` for each request in it; `per_context` for each token that is read from
    the KV cache. Where prompts are computed it costs `prefill_fixed` and, of their tokens, `per_prefill` each and
    `per_prefill_squared`; where answers go on `decode_fixed` and `per_context_squared`. Below `least_tokens` tokens (of
    prompts and answers together, each `per_token`) the device is not full and a step costs as much as with so many.
    """

    fixed: float = 0.0
    per_prefill: float = 0.0
    per_prefill_squared: float = 0.0
    prefill_fixed: float = 0.0
    decode_fixed: float = 0.0
    per_context: float = 0.0
    per_context_squared: float = 0.0
    per_sequence: float = 0.0
    per_token: float = 0.0
    least_tokens: int = 0

    def mixed(self, prefill: int, beginning: int, read: int, decoding: int, context: int) -> float:
        """One step: `prefill` tokens of `beginning` requests that read `read` tokens, beside `decoding` answers that
        read `context` tokens."""
        seconds = (
            self.fixed
            + self.per_sequence * (beginning + decoding)
            + self.per_context * (read + context)
            + self.per_token * max(prefill + decoding, self.least_tokens)
        )
        if prefill:
            seconds += self.prefill_fixed + prefill * (self.per_prefill + prefill * self.per_prefill_squared)
        if decoding:
            seconds += self.decode_fixed + self.per_context_squared * context * context
        return seconds

    def decode(self, steps: int, decoding: int, context: int) -> float:
        """`steps` steps in which `decoding` answers grow by one token each; they read `context` in the first one."""
        n, k = float(decoding), float(steps)
        seconds = k * (
            self.fixed
            + self.decode_fixed
            + self.per_sequence * n
            + self.per_context * context
            + self.per_token * max(decoding, self.least_tokens)
        )
        sum1 = k * (k - 1.0) / 2.0  # 0 + 1 + … + (k - 1)
        seconds += self.per_context * n * sum1
        if self.per_context_squared:
            sum2 = sum1 * (2.0 * k - 1.0) / 3.0  # 0² + 1² + … + (k - 1)²
            c = float(context)
            seconds += self.per_context_squared * (k * c * c + 2.0 * c * n * sum1 + n * n * sum2)
        return seconds


@dataclass(frozen=True, slots=True)
class EngineConstants:
    """A simulated engine: the time of its steps and its limits, under vLLM's names for them in brackets."""

    step: StepTime
    kv_tokens: int
    """Tokens that fit in the KV cache (num_gpu_blocks × block_size)."""
    block_size: int = 16
    """Tokens in a block, the unit of the cache (block_size)."""
    chunk: int = 8192
    """Most tokens in a step (max_num_batched_tokens)."""
    max_running: int = 256
    """Most requests in a step (max_num_seqs)."""
    max_waiting: int = 1024
    """Most requests that wait; further ones are refused. vLLM has no such limit, SGLang has (max_queued_requests)."""

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache (num_gpu_blocks)."""
        return self.kv_tokens // self.block_size


H100_8B = EngineConstants(
    StepTime(fixed=7 * MS, per_prefill=0.033 * MS, per_context=7.6e-5 * MS, per_sequence=0.0044 * MS),
    kv_tokens=421_000,
)
"""A model of 8 billion parameters in 16 bits on one H100: memory bandwidth gives the fixed part and that of the context
(16 GB and 128 KiB a token at 3.3 TB/s less what is lost), a prefill of 30 000 tokens a second the rest."""

_MOCKER_TOKENS = 16384 * 64

DYNAMO_MOCKER = EngineConstants(
    StepTime(
        prefill_fixed=16.5 * MS,
        per_prefill=0.0152 * MS,
        per_prefill_squared=4.21e-7 * MS,
        decode_fixed=5.74 * MS,
        per_context=54.01 * MS / _MOCKER_TOKENS,
        per_context_squared=-25.74 * MS / _MOCKER_TOKENS**2,
    ),
    kv_tokens=_MOCKER_TOKENS,
    block_size=64,
)
"""NVIDIA Dynamo's mocker: prefill ms = 4.21e-7·t² + 0.0152·t + 16.5, decode ms = −25.74x² + 54.01x + 5.74 where x is
the filled part of the KV cache, and its default limits. Its floor of 1 ms for a decode is never reached."""

A100_7B = EngineConstants(
    StepTime(fixed=5.5 * MS, per_token=0.0503 * MS, least_tokens=256),
    kv_tokens=115_000,
)
"""A model of 7 billion parameters without grouped attention on one A100 of 80 GB: step ms = 0.0503·n + 5.5 for n ≥ 256
tokens, the same below. Beside 14 GB of weights 115 000 tokens of 512 KiB fit."""

PROFILES: dict[str, EngineConstants] = {"h100-8b": H100_8B, "dynamo-mocker": DYNAMO_MOCKER, "a100-7b": A100_7B}
