"""A new device from a few probe networks and the devices that are known.

Devices that are alike rank networks alike and differ by a scale and an offset of the logarithm (Lee et al., HELP,
NeurIPS 2021, learn that from many devices). Here what the known devices' predictors say of a network are columns
beside those of its graph: the process finds from the probes how much each known device explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import UserError
from hwloop.layers import Network
from hwloop.predictors.conformal import Coverage
from hwloop.predictors.graph.encoding import Blocks, Encoding
from hwloop.predictors.graph.features import FLOWS, Described, describe_networks
from hwloop.predictors.graph.regression import Estimate, Regression, checked_values
from hwloop.predictors.graph.whole_network import WholeNetworkPredictor

FloatArray = NDArray[np.float64]

KnownDevices = Mapping[str, WholeNetworkPredictor]
"""Predictors of other devices, by name."""

GRAPH_FROM = 8
"""With fewer probes the columns of the graph are too many to be weighed beside the known devices."""

PAYS = 0.9
"""The known devices must bring the error below this share of the one from scratch: a few probes tell no finer."""


@dataclass(frozen=True)
class Evidence:
    """Why a transfer was made, or not.

    Attributes:
        transferred: whether the known devices are used.
        error: mean absolute error of the logarithm over the probes, each predicted without itself.
        scratch_error: the same of a predictor that knows of no other device.
        weights: by known device, the share of the variance that its predictor explains; nothing from scratch.
    """

    transferred: bool
    error: float
    scratch_error: float
    weights: Mapping[str, float]

    def __str__(self) -> str:
        errors = f"{self.error:.1%} with the known devices, {self.scratch_error:.1%} from scratch"
        if not self.transferred:
            return f"from scratch: the probes are predicted without themselves to {errors}"
        shares = ", ".join(f"{name} {weight:.0%}" for name, weight in self.weights.items())
        return f"transferred ({shares}): the probes are predicted without themselves to {errors}"


class TransferredPredictor:
    """Latency (or another positive quantity) on a new device.

    Attributes:
        evidence: whether the known devices are used, and why.
    """

    def __init__(
        self,
        known: KnownDevices,
        encoding: Encoding,
        regression: Regression,
        scratch: WholeNetworkPredictor,
    ) -> None:
        """Use `TransferredPredictor.fit`."""
        self._known = known
        self._encoding = encoding
        self._regression = regression
        self._scratch = scratch
        error, scratch_error = _error(regression), _error(scratch.regression)
        transferred = error < PAYS * scratch_error
        weights = _weights(known, regression) if transferred else {}
        self.evidence = Evidence(transferred, error, scratch_error, weights)

    @classmethod
    def fit(
        cls,
        known: KnownDevices,
        networks: Sequence[Network],
        values: ArrayLike,
        *,
        coverage: float = 0.9,
        seed: int = 0,
    ) -> TransferredPredictor:
        """Learn from probe networks on the new device.

        Args:
            known: at least one device.
            networks: n probes, see `choose_probes`.
            values: (n,) what was measured on the new device, positive; in any unit.
            coverage: of the intervals.
            seed: as of `WholeNetworkPredictor.fit`.

        Raises:
            UserError: no device is known, or the probes are as `WholeNetworkPredictor.fit` refuses them.
        """
        return cls.fit_described(known, describe_networks(networks), values, coverage=coverage, seed=seed)

    @classmethod
    def fit_described(
        cls, known: KnownDevices, probes: Described, values: ArrayLike, *, coverage: float = 0.9, seed: int = 0
    ) -> TransferredPredictor:
        """As `fit`, from what `describe_networks` returned."""
        _some(known)
        measured = checked_values(values, len(probes))
        scratch = WholeNetworkPredictor.fit_described(probes, measured, coverage=coverage, seed=seed)
        others = _others(known, probes)
        candidates = []
        for flows in ((), scratch.flows) if len(probes) >= GRAPH_FROM else ((),):
            encoding = Encoding.learned(probes, flows)
            blocks = (*others, *encoding.blocks_of(probes))
            regression = Regression.fit(blocks, measured, coverage, seed, favoured=len(known))
            candidates.append((_error(regression), encoding, regression))
        _, encoding, regression = min(candidates, key=lambda candidate: candidate[0])
        return cls(known, encoding, regression, scratch)

    @property
    def coverage(self) -> Coverage:
        """What the intervals promise."""
        return self._regression.coverage if self.evidence.transferred else self._scratch.coverage

    def predict(self, networks: Sequence[Network]) -> Estimate:
        """Predict n networks on the new device, with intervals."""
        return self.predict_described(describe_networks(networks))

    def predict_described(self, described: Described) -> Estimate:
        """As `predict`, from what `describe_networks` returned."""
        if not self.evidence.transferred:
            return self._scratch.predict_described(described)
        return self._regression.estimate((*_others(self._known, described), *self._encoding.blocks_of(described)))


def choose_probes(known: KnownDevices, networks: Sequence[Network], count: int) -> list[int]:
    """Networks to measure first on a new device, the most telling one first.

    Each is the one of which least is known after those before it: the largest conditional variance of a process whose
    columns are what the known devices' predictors say and the sizes of the networks (a greedy maximum of the
    determinant, as in D-optimal designs).

    Args:
        known: at least one device.
        networks: to choose from.
        count: how many, at most as many as there are.

    Returns:
        Indices of `networks`.

    Raises:
        UserError: no device is known, or there are fewer networks than `count`.
    """
    return choose_described(known, describe_networks(networks), count)


def choose_described(known: KnownDevices, described: Described, count: int) -> list[int]:
    """As `choose_probes`, from what `describe_networks` returned."""
    _some(known)
    if not 0 < count <= len(described):
        raise UserError(f"cannot choose {count} probes from {len(described)} networks")
    said = np.column_stack([predictor.logarithms(described) for predictor in known.values()])
    sizes = np.array([one.sizes for one in described.by_flow[next(iter(FLOWS))]])
    rows = np.column_stack([_standard(said), _standard(sizes) / np.sqrt(sizes.shape[1])])
    return _spread_out(rows, count)


def _spread_out(rows: FloatArray, count: int) -> list[int]:
    """Greedy choice by a pivoted Cholesky factor of a linear plus a smooth covariance of (n, d) rows."""
    squares = (rows**2).sum(axis=1)
    left = 2.0 + squares  # variances given what is chosen
    factors: list[FloatArray] = []
    chosen: list[int] = []
    for _ in range(count):
        left[chosen] = -np.inf
        best = int(np.argmax(left))
        inner = rows @ rows[best]
        apart = np.maximum(squares + squares[best] - 2 * inner, 0)
        column = 1.0 + inner + np.exp(-0.5 * apart)
        for factor in factors:
            column -= factor * factor[best]
        factor = column / np.sqrt(left[best] + 1e-3)
        left = left - factor**2
        factors.append(factor)
        chosen.append(best)
    return chosen


def _standard(columns: FloatArray) -> FloatArray:
    spread = columns.std(axis=0)
    return np.asarray((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1), dtype=np.float64)


def _others(known: KnownDevices, described: Described) -> Blocks:
    """One block of one column for each known device: its predictions, standardised by what it was fitted on."""
    return tuple(
        ((predictor.logarithms(described) - predictor.regression.centre) / predictor.regression.scale)[:, None]
        for predictor in known.values()
    )


def _error(regression: Regression) -> float:
    return float(np.abs(regression.residuals).mean())


def _weights(known: KnownDevices, regression: Regression) -> dict[str, float]:
    kernel = regression.process.kernel
    explained = float(kernel.linear.sum() + kernel.smooth.sum())
    shares = (kernel.linear + kernel.smooth) / explained
    return {name: float(share) for name, share in zip(known, shares, strict=False)}


def _some(known: KnownDevices) -> None:
    if not known:
        raise UserError("no device is known to transfer from: fit a WholeNetworkPredictor instead")
