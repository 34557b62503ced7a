"""From the sum of isolated layers to the latency of the whole network.

Isolated layers do not add up to a network: every isolated run pays the dispatch of a session, caches are cold
or warm otherwise, and layouts are reordered at the borders. The correction is a line through whole networks
that were
measured: ``latency = scale * sum + offset_ms (+ ms_per_byte * bytes moved)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FORMS: Mapping[str, tuple[int, ...]] = {"scale": (0,), "line": (0, 1), "bytes": (0, 1, 2)}
"""Terms of each form: 0 the sum, 1 the constant, 2 the bytes moved. From the simplest to the richest."""

FEWEST_NETWORKS: Mapping[str, int] = {"scale": 1, "line": 4, "bytes": 8}

PRIOR = np.array([1.0, 0.0, 0.0])
"""A sum that needs no correction: what the fit is drawn to when there is little to fit."""

RIDGE = 0.02
"""Weight of the prior, as a share of one network with relative weight: a few networks outvote it."""

PAYS = 0.95
"""A richer form must bring the leave-one-out error below this share of the simpler one's."""

HUBER = 1.5
"""Residuals beyond this many robust standard deviations lose influence (a disturbed measurement)."""

ROUNDS = 8
"""Reweightings; the weights have settled by then."""

ROBUST_FROM = 5
"""Fewer networks cannot outvote a disturbed one: no weights then."""

FLOOR_SHARE = 0.5
"""A prediction never falls below this share of the smallest measured / sum seen in the fit, times the sum."""


@dataclass(frozen=True)
class Correction:
    """A fitted line.

    Attributes:
        form: a name of `FORMS`, or ``none`` for the bare sum.
        scale: of the sum of the layers.
        offset_ms: constant; negative where each isolated layer paid a dispatch that the network does not.
        ms_per_byte: of the bytes moved.
        floor: smallest ratio of latency to sum that is ever predicted.
        networks: how many networks it was fitted on.
        leave_one_out_error: mean absolute relative error of the form; nan when it could not be estimated.
    """

    form: str = "none"
    scale: float = 1.0
    offset_ms: float = 0.0
    ms_per_byte: float = 0.0
    floor: float = 0.0
    networks: int = 0
    leave_one_out_error: float = float("nan")

    def apply(self, sums_ms: FloatArray, bytes_moved: FloatArray) -> FloatArray:
        """(n,) latencies from (n,) sums and (n,) bytes moved."""
        latency = self.scale * sums_ms + self.offset_ms + self.ms_per_byte * bytes_moved
        return np.maximum(latency, self.floor * sums_ms)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def fit_correction(
    sums_ms: FloatArray, bytes_moved: FloatArray, latencies_ms: FloatArray, form: str | None = None
) -> Correction:
    """Fit the correction on measured networks.

    Relative residuals are minimised (a small network counts as much as a large one) by ridge regression
    toward the bare sum, with Huber weights against disturbed measurements.

    Args:
        sums_ms: (n,) sums of the layers, positive.
        bytes_moved: (n,).
        latencies_ms: (n,) measured latencies, positive.
        form: a name of `FORMS`; by default chosen by leave-one-out, the richer form only where it pays.

    Returns:
        The correction; of form ``none`` when there is no network.
    """
    if len(latencies_ms) == 0:
        return Correction()
    everything = np.ones((1, len(latencies_ms)), dtype=np.bool_)
    return _fit_subsets(sums_ms, bytes_moved, latencies_ms, everything, form)[0]


def fit_without_each(sums_ms: FloatArray, bytes_moved: FloatArray, latencies_ms: FloatArray) -> list[Correction]:
    """The corrections that `fit_correction` finds when each of the n >= 2 networks is left out in turn."""
    return _fit_subsets(sums_ms, bytes_moved, latencies_ms, ~np.eye(len(latencies_ms), dtype=np.bool_), None)


def _fit_subsets(
    sums: FloatArray, moved: FloatArray, latencies: FloatArray, subsets: BoolArray, form: str | None
) -> list[Correction]:
    """One correction for each of (k, n) subsets of the networks; all have the same size."""
    design = np.stack([sums, np.ones(len(sums)), moved], axis=1)
    size = int(subsets[0].sum())
    forms = [form] if form is not None else [name for name, fewest in FEWEST_NETWORKS.items() if size >= fewest]
    errors = np.stack([_leave_one_out(design, latencies, subsets, FORMS[name]) for name in forms])
    solutions = np.stack([_solve(design, latencies, subsets, FORMS[name]) for name in forms])
    fitted = []
    for index, subset in enumerate(subsets):
        chosen = 0
        for other in range(1, len(forms)):
            if errors[other, index] < PAYS * errors[chosen, index]:
                chosen = other
        scale, offset, per_byte = solutions[chosen, index]
        fitted.append(
            Correction(
                form=forms[chosen],
                scale=float(scale),
                offset_ms=float(offset),
                ms_per_byte=float(per_byte),
                floor=float(FLOOR_SHARE * (latencies / sums)[subset].min()),
                networks=size,
                leave_one_out_error=float(errors[chosen, index]),
            )
        )
    return fitted


def _leave_one_out(design: FloatArray, latencies: FloatArray, subsets: BoolArray, terms: tuple[int, ...]) -> FloatArray:
    """(k,) mean absolute relative error of the networks of each subset, each predicted without it."""
    count = len(latencies)
    if subsets[0].sum() < 2:
        return np.full(len(subsets), np.nan)
    reduced = subsets[:, None, :] & ~np.eye(count, dtype=np.bool_)[None]  # (k, n, n): subset k without network i
    solutions = _solve(design, latencies, reduced.reshape(-1, count), terms).reshape(len(subsets), count, 3)
    errors = np.abs((solutions * design).sum(axis=2) / latencies - 1)
    return np.asarray((errors * subsets).sum(axis=1) / subsets.sum(axis=1), dtype=np.float64)


def _solve(design: FloatArray, latencies: FloatArray, subsets: BoolArray, terms: tuple[int, ...]) -> FloatArray:
    """(k, 3) coefficients for (k, n) subsets; other terms than `terms` are 0, scale and bytes never below."""
    used = list(terms)
    relative = design[:, used] / latencies[:, None]  # (n, t): the target is 1 everywhere
    # Terms in comparable units: each contributes about 1 to a relative residual, so that one ridge suits all.
    unit = (subsets @ np.abs(relative)) / subsets.sum(axis=1, keepdims=True)
    prior = PRIOR[used] * unit
    penalty = RIDGE * np.eye(len(used))
    products = relative[:, :, None] * relative[:, None, :]
    weights = subsets.astype(np.float64)
    middle = (subsets.sum(axis=1) - 1) // 2  # the lower median
    rounds = ROUNDS if len(latencies) >= ROBUST_FROM else 1
    for _ in range(rounds):
        left = np.tensordot(weights, products, axes=1) / (unit[:, :, None] * unit[:, None, :]) + penalty
        right = weights @ relative / unit + prior @ penalty
        solution = np.linalg.solve(left, right[:, :, None])[:, :, 0] / unit
        residuals = np.abs(solution @ relative.T - 1)
        ordered = np.sort(np.where(subsets, residuals, np.inf), axis=1)
        spread = 1.4826 * np.take_along_axis(ordered, middle[:, None], axis=1)
        weights = subsets * np.minimum(1, HUBER * np.maximum(spread, 1e-12) / np.maximum(residuals, 1e-12))
    coefficients = np.zeros((len(subsets), 3))
    coefficients[:, used] = solution
    for term, simpler in ((2, "line"), (0, "scale")):  # neither moving bytes nor working can save time
        wrong = coefficients[:, term] < 0
        if wrong.any() and len(FORMS[simpler]) < len(terms):
            coefficients[wrong] = _solve(design, latencies, subsets[wrong], FORMS[simpler])
    return coefficients
