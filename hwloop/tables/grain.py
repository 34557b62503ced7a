"""The grain of a device: the number of channels in which latency moves.

Runtimes work in blocks of channels (onnxruntime's NCHWc kernels: 8 with AVX2, 16 with AVX-512), so latency
over the output channels of a convolution is a staircase: cutting 16 channels to 13 saves nothing. The grain
is learned from a sweep, never assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import UserError

STEPS = (1, 2, 4, 8, 16, 32, 64)
"""The steps that are tried."""

FEWEST_WIDTHS = 4
"""Two parameters and a step cannot be told from fewer different widths."""

DEFAULT_NOISE = 0.01
"""Relative noise of a latency where none was measured."""

LEAST_NOISE = 1e-6
"""No sweep is taken to be more precise than this."""


@dataclass(frozen=True)
class Grain:
    """The step of a latency staircase.

    Attributes:
        step: channels per step; 1 when nothing coarser is proven.
        evidence: how much better the step explains the sweep than a straight line does, in units of the
            criterion (twice the log-likelihood ratio less the price of the step); 0 when `step` is 1. Above
            10 is beyond doubt.
        scores: the criterion of every step that was tried; the smallest won.
        misfits: the mean squared relative residual of every step.
        points: latencies in the sweep (or sweeps).
        noise: the relative standard deviation that a latency was taken to have.
    """

    step: int
    evidence: float
    scores: Mapping[int, float]
    misfits: Mapping[int, float]
    points: int
    noise: float


def learn_grain(widths: ArrayLike, latencies_ms: ArrayLike, noise: float = DEFAULT_NOISE) -> Grain:
    """Learn the step of the staircase from a sweep of one convolution's output channels.

    For each step s, ``latency = a + b * ceil(width / s) * s`` is fitted by least squares on relative
    residuals. Steps are compared by ``n log(mean squared residual + noise²) + log(n) log2(s)``: a Gaussian
    likelihood that gains little from residuals below the noise, plus the price of one parameter in the
    Bayesian criterion for each doubling. So a coarser step must earn its place, and among steps that explain
    the sweep equally well the smallest is taken.

    Args:
        widths: (n,) channels, at least `FEWEST_WIDTHS` different ones.
        latencies_ms: (n,) latencies, positive.
        noise: relative standard deviation of a latency (for example the noise floor).

    Returns:
        The grain.

    Raises:
        UserError: too few widths, or latencies that are none.
    """
    channels = np.asarray(widths, dtype=np.float64)
    latency = np.asarray(latencies_ms, dtype=np.float64)
    if channels.shape != latency.shape or channels.ndim != 1:
        raise UserError("a sweep needs one latency for each width")
    if not (np.isfinite(latency).all() and (latency > 0).all() and (channels >= 1).all()):
        raise UserError("a sweep needs positive, finite latencies and widths of at least 1")
    if len(np.unique(channels)) < FEWEST_WIDTHS:
        raise UserError(f"a sweep needs at least {FEWEST_WIDTHS} different widths, got {len(np.unique(channels))}")
    misfits = {
        step: _misfit(np.ceil(channels / step) * step, latency) for step in STEPS if step == 1 or step <= channels.max()
    }
    return _best(misfits, len(channels), noise if math.isfinite(noise) else DEFAULT_NOISE)


def pool_grains(grains: Sequence[Grain]) -> Grain:
    """The grain on which several sweeps of one device agree best.

    Every sweep keeps its own line; their squared residuals are put together, and the price of a step is paid
    once. Steps that one of the sweeps was too narrow to show are left out. Without sweeps the step is 1.
    """
    if not grains:
        return Grain(1, 0.0, {1: 0.0}, {1: 0.0}, 0, DEFAULT_NOISE)
    points = sum(grain.points for grain in grains)
    common = [step for step in STEPS if all(step in grain.misfits for grain in grains)]
    misfits = {step: math.fsum(grain.misfits[step] * grain.points for grain in grains) / points for step in common}
    return _best(misfits, points, max(grain.noise for grain in grains))


def _best(misfits: Mapping[int, float], points: int, noise: float) -> Grain:
    floor = max(noise, LEAST_NOISE) ** 2
    scores = {
        step: points * math.log(misfit + floor) + math.log(points) * math.log2(step) for step, misfit in misfits.items()
    }
    step = min(scores, key=lambda s: (scores[s], s))
    return Grain(step, scores[1] - scores[step], scores, dict(misfits), points, noise)


def _misfit(channels: NDArray[np.float64], latency: NDArray[np.float64]) -> float:
    """Mean squared relative residual of the best line with a slope of at least 0."""
    design = np.stack([np.ones_like(channels), channels], axis=1) / latency[:, None]
    target = np.ones_like(latency)
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    if coefficients[1] < 0:  # more channels cannot be faster: no staircase, a constant
        coefficients = np.array([design[:, 0].sum() / (design[:, 0] ** 2).sum(), 0.0])
    return float(np.mean((design @ coefficients - target) ** 2))
