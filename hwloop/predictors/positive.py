"""Coefficients that cannot be negative, drawn to what is expected of them, robust against single outliers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

FloatArray = NDArray[np.float64]

HUBER = 1.5

UPPER = 0.9
"""Share of the measured ones that lie below the upper bound."""

ROUNDS = 20


def fit_positive(
    terms: FloatArray, measured: FloatArray, expected: FloatArray, spreads: FloatArray, noise: float
) -> FloatArray:
    """Fit ``measured = terms @ coefficients`` with relative errors and non-negative coefficients.

    Ridge regression towards what is expected, whose weight is the noise that the fit leaves, so that the expectation
    yields as the data speak; with Huber weights.

    Args:
        terms: (n, k), not negative.
        measured: (n,), positive.
        expected: (k,) coefficients.
        spreads: (k,) how far from that they may well be; infinite where nothing is expected.
        noise: relative, to start with.

    Returns:
        (k,) coefficients.
    """
    design = terms / measured[:, None]
    scale = np.abs(design).mean(axis=0)
    scale[scale == 0] = 1
    scaled = design / scale
    weights = np.ones(len(measured))
    solution = np.zeros(terms.shape[1])
    for _ in range(ROUNDS):
        noise = max(noise, 1e-9)
        rows = np.vstack([scaled * np.sqrt(weights)[:, None], np.diag(noise / spreads / scale)])
        solution = nnls(rows, np.concatenate([np.sqrt(weights), noise / spreads * expected]))[0]
        residuals = np.abs(scaled @ solution - 1)
        noise = 1.4826 * float(np.median(residuals))
        weights = np.minimum(1, HUBER * max(noise, 1e-9) / np.maximum(residuals, 1e-12))
    coefficients: FloatArray = solution / scale
    return coefficients


def upper_margin(predicted: FloatArray, measured: FloatArray) -> float:
    """How far above its prediction, relative, `UPPER` of the measured ones lie at most; not below 0."""
    count = len(measured)
    above = np.sort(measured / predicted - 1)
    return max(float(above[min(count, math.ceil(UPPER * (count + 1))) - 1]), 0.0)
