"""What the C library does with memory that is freed; of use to whoever runs torch, on a device or on the host."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""As malloc.h of glibc has them."""


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed instead of giving it back to the system; return whether it could be told.

    torch allocates the result of every operation anew. Whether glibc gives a freed one back, and has its pages zeroed
    again for the next inference, depends on what lies behind it in the heap: two processes with the same network can
    differ by a factor of four. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(M_MMAP_MAX, 0))
