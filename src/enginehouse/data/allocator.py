"""How the C library's allocator treats bodies: memory that is free stays mapped, within bounds.

Owns `tune`. By default glibc returns a large block to the system as soon as it is free and asks for it again with the
next body: at 1 MB a body, the page faults cost more than all copying (370 µs of CPU against 120 µs to read one).
May not live here: anything that is not about memory.
"""

from __future__ import annotations

import ctypes
from typing import Final

from enginehouse.core.units import MIB

#: Numbers of the settings, from malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
#: Free memory kept at the end of the heap. Bytes.
KEPT: Final = 8 * MIB
#: Blocks of this size and above still come from the system, and go back there. Bytes.
LARGE: Final = 4 * MIB


def tune() -> bool:
    """Set it for this process. False where the C library has no such settings (musl, macOS): nothing changes there."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT))
