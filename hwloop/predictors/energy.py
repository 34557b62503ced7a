"""Energy of one run of a network: the power that the board draws anyway, and what arithmetic and traffic add to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.predictors.positive import fit_positive, upper_margin

FloatArray = NDArray[np.float64]

FEWEST_NETWORKS = 4
"""With fewer, only the mean power is fitted."""

ADDED_SHARE = 0.3
"""Share of a run's energy that arithmetic, or traffic, may well account for beyond its time."""

FIRST_NOISE = 0.05


@dataclass(frozen=True)
class EnergyModel:
    """``energy = power_w * latency + mj_per_mac * MACs + mj_per_byte * moved bytes``; 1 W for 1 ms is 1 mJ.

    Attributes:
        power_w: while the network runs, whatever it computes.
        mj_per_mac: that a multiply-accumulate adds.
        mj_per_byte: that a byte of activations or weights adds.
        networks: how many networks it was fitted on; with 0 there is no prediction.
        margin: relative; nine in ten of these networks lay at most so far above the prediction.
    """

    power_w: float = 0.0
    mj_per_mac: float = 0.0
    mj_per_byte: float = 0.0
    networks: int = 0
    margin: float = 0.0

    def apply(self, latency_ms: FloatArray, macs: FloatArray, moved_bytes: FloatArray) -> FloatArray:
        """(n,) millijoules of one run."""
        return self.power_w * latency_ms + self.mj_per_mac * macs + self.mj_per_byte * moved_bytes

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def fit_energy(latency_ms: FloatArray, macs: FloatArray, moved_bytes: FloatArray, energy_mj: FloatArray) -> EnergyModel:
    """Fit the model on networks whose energy was measured.

    Args:
        latency_ms: (n,) measured.
        macs: (n,).
        moved_bytes: (n,) of activations and weights.
        energy_mj: (n,) measured, positive.

    Returns:
        The model; of 0 networks when there is none.
    """
    count = len(energy_mj)
    if count == 0:
        return EnergyModel()
    power = float(np.median(energy_mj / latency_ms))
    if count < FEWEST_NETWORKS:
        return EnergyModel(power, networks=count)
    terms = np.stack([latency_ms, macs, moved_bytes], axis=1).astype(np.float64)
    means = np.maximum((terms / energy_mj[:, None]).mean(axis=0), 1e-30)
    spreads = np.array([np.inf, ADDED_SHARE, ADDED_SHARE]) / means
    power, per_mac, per_byte = fit_positive(terms, energy_mj, np.zeros(3), spreads, FIRST_NOISE).tolist()
    model = EnergyModel(power, per_mac, per_byte, count)
    return replace(model, margin=upper_margin(model.apply(latency_ms, macs, moved_bytes), energy_mj))
