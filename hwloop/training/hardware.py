"""What this machine's processor does fast, and how many threads torch uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fast_dtype() -> torch.dtype:
    """Return bfloat16 where the processor multiplies it in hardware (AVX-512 BF16 or AMX), else float32.

    Without that hardware bfloat16 is emulated and several times slower than float32.
    """
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        return torch.bfloat16
    return torch.float32


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use `threads` threads inside the block; None leaves the number as it is."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
