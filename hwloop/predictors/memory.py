"""Peak memory of a process that runs a network: the runtime's base, weights, and live activations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.predictors.positive import fit_positive, upper_margin

FloatArray = NDArray[np.float64]

EXPECTED = 1.0
"""Copies of weights and of peak activations that a runtime is expected to hold."""

EXPECTED_SPREAD = 2.0
"""How far from `EXPECTED` a runtime may well be: one that packs weights holds two or three copies of them."""

FEWEST_NETWORKS = 3
"""With fewer, only the base is fitted and the expected copies are assumed."""


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
    copies are estimated with a prior (`EXPECTED`, `EXPECTED_SPREAD`) that yields as the data speak (`fit_positive`).

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
    terms = np.stack([np.ones(count), weight_bytes, activation_bytes], axis=1)
    # The first noise is that of the expected copies, so that the prior starts with a fair weight.
    off = np.abs((peak_bytes - expected) - np.median(peak_bytes - expected)) / peak_bytes
    base, weight_copies, activation_copies = fit_positive(
        terms,
        peak_bytes,
        np.array([0.0, EXPECTED, EXPECTED]),
        np.array([np.inf, EXPECTED_SPREAD, EXPECTED_SPREAD]),
        1.4826 * float(np.median(off)),
    )
    model = MemoryModel(float(base), float(weight_copies), float(activation_copies), count)
    return replace(model, margin=upper_margin(model.apply(weight_bytes, activation_bytes), peak_bytes))
