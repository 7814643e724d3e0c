"""What routing needs to know of a request, and nothing else of it.

Owns: `Ask` and its `Prompt` (the words between `wire`, which finds them in a request, and `policy`, which chooses by
them). May not live here: finding them (`wire.peek`, `wire.multipart`, `wire.paths`), hashing (`policy.chunks`).
"""

from __future__ import annotations

from collections.abc import Sequence


class Prompt:
    """What an engine would have to read, as hashes of its beginnings: all that is needed to find it again."""

    __slots__ = ("chunks", "ends", "size")

    def __init__(self, size: int, chunks: Sequence[int], ends: Sequence[int]) -> None:
        self.size = size
        """Bytes of the prompt."""
        self.chunks = chunks
        """Hash k stands for everything up to `ends[k]`, model included: 62 bits, the same in every process."""
        self.ends = ends
        """In bytes, rising; at least as many as there are chunks, most often one tuple that all prompts share."""


class Ask:
    """One request as the policy sees it."""

    __slots__ = ("cache_type", "model", "policy", "prompt", "remembered", "session")

    def __init__(
        self,
        model: str = "",
        session: str = "",
        remembered: int = -1,
        cache_type: str = "",
        prompt: Prompt | None = None,
        policy: str = "",
    ) -> None:
        self.model = model
        """Model name after aliases; "" where the request names none."""
        self.session = session
        """Affinity key (CONTRACTS 1.2), "" where nothing pins the request."""
        self.remembered = remembered
        """Slot of the service that made the id this request is about; -1 for none."""
        self.cache_type = cache_type
        """Preferred `cache_type` by size, "" where no service carries one or the request has no text."""
        self.prompt = prompt
        """None where the request has none (a file), or none that is worth finding again (an embedding)."""
        self.policy = policy
        """The policy that the request asks for; "" for that of its model."""
