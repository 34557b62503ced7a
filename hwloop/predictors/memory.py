"""Peak memory of a process that runs a network: the runtime's base, weights, and live activations."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

FloatArray = NDArray[np.float64]

EXPECTED = 1.0
"""Copies of weights and of peak activations that a runtime is expected to hold."""

EXPECTED_SPREAD = 2.0
"""How far from `EXPECTED` a runtime may well be: one that packs weights holds two or three copies of them."""

FEWEST_NETWORKS = 3
"""With fewer, only the base is fitted and the expected copies are assumed."""

HUBER = 1.5

UPPER = 0.9
"""Share of the networks that lie below the upper bound."""

ROUNDS = 20


@dataclass(frozen=True)
class MemoryModel:
    """``peak = base_bytes + weight_copies * weight bytes + activation_copies * peak activation bytes``.

    Attributes:
        base_bytes: of the process with the runtime loaded.
        weight_copies: of the weights.
        activation_copies: of the largest sum of live activations.
        networks: how many networks it was fitted on; with 0 there is no prediction.
        margin: relative; nine in ten of these networks lay at most so far above the prediction.
    """

    base_bytes: float = float("nan")
    weight_copies: float = EXPECTED
    activation_copies: float = EXPECTED
    networks: int = 0
    margin: float = 0.0

    def apply(self, weight_bytes: FloatArray, activation_bytes: FloatArray) -> FloatArray:
        """(n,) peak bytes; nan when no network's memory was measured."""
        return self.base_bytes + self.weight_copies * weight_bytes + self.activation_copies * activation_bytes

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data; a base that is not known is null."""
        content = asdict(self)
        return content | {"base_bytes": self.base_bytes if self.networks else None}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MemoryModel:
        """The inverse of `to_dict`."""
        base = content["base_bytes"]
        return cls(**(content | {"base_bytes": float("nan") if base is None else base}))


def fit_memory(weight_bytes: FloatArray, activation_bytes: FloatArray, peak_bytes: FloatArray) -> MemoryModel:
    """Fit the model on measured peaks.

    A small network moves the peak by less than the peak's own noise (pages, arenas, allocator slack), so the
    copies are estimated with a prior (`EXPECTED`, `EXPECTED_SPREAD`) that yields as the data speak: ridge
    regression whose weight is the noise that the fit leaves, non-negative, with Huber weights against single
    outliers.

    Args:
        weight_bytes: (n,).
        activation_bytes: (n,) peak of live activations.
        peak_bytes: (n,) measured peaks, positive.

    Returns:
        The model; of 0 networks when there is none.
    """
    count = len(peak_bytes)
    if count == 0:
        return MemoryModel()
    expected = EXPECTED * (weight_bytes + activation_bytes)
    if count < FEWEST_NETWORKS:
        return MemoryModel(max(float(np.median(peak_bytes - expected)), 0.0), networks=count)
    design = np.stack([np.ones(count), weight_bytes, activation_bytes], axis=1) / peak_bytes[:, None]
    scale = np.abs(design).mean(axis=0)
    scale[scale == 0] = 1
    scaled = design / scale
    weights = np.ones(count)
    # The first noise is that of the expected copies, so that the prior starts with a fair weight.
    residuals = np.abs((peak_bytes - expected) - np.median(peak_bytes - expected)) / peak_bytes
    solution = np.zeros(3)
    for _ in range(ROUNDS):
        noise = max(1.4826 * float(np.median(residuals)), 1e-9)
        prior = noise / EXPECTED_SPREAD * np.diag([0.0, 1.0, 1.0]) / scale
        rows = np.vstack([scaled * np.sqrt(weights)[:, None], prior])
        target = np.concatenate([np.sqrt(weights), [0.0, *[noise / EXPECTED_SPREAD * EXPECTED] * 2]])
        solution = nnls(rows, target)[0]
        residuals = np.abs(scaled @ solution - 1)
        weights = np.minimum(1, HUBER * noise / np.maximum(residuals, 1e-12))
    base, weight_copies, activation_copies = solution / scale
    above = np.sort(1 / (scaled @ solution) - 1)  # the target is 1
    margin = max(float(above[min(count, math.ceil(UPPER * (count + 1))) - 1]), 0.0)
    return MemoryModel(float(base), float(weight_copies), float(activation_copies), count, margin)
