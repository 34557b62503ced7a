"""What this machine does fast, and how many threads torch uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hwloop.errors import ConfigError


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Return bfloat16 where the device multiplies it in hardware (AVX-512 BF16 or AMX; CUDA), else float32.

    Without that hardware bfloat16 is emulated and several times slower than float32.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        return torch.bfloat16
    return torch.float32


def training_device(wanted: str) -> str:
    """Return "cpu" or "cuda" for "cpu", "cuda" or "auto" (CUDA where there is one).

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigError("device is cuda: torch finds no CUDA device here; leave it out, or take cpu")
    return "cuda" if wanted == "cuda" or (wanted == "auto" and there) else "cpu"


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


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Keep CUDA to kernels that give the same result every time inside the block; those of the CPU do anyway."""
    if device != "cuda":
        yield
        return
    before = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
