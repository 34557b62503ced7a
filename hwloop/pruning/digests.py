"""Short names of large content, by which one is told from another."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


def digest(*parts: Tensor | NDArray[Any] | bytes) -> str:
    """Return the SHA-256 of contents, one after the other, as 64 hex digits."""
    found = hashlib.sha256()
    for part in parts:
        content = part.detach().cpu().numpy() if isinstance(part, Tensor) else part
        found.update(content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes())
    return found.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """Return the digest of a network's parameters and buffers, with their names."""
    state = module.state_dict()
    return digest("\n".join(state).encode(), *(value for value in state.values() if isinstance(value, Tensor)))
