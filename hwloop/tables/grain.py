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
"""A line and a step cannot be told from fewer different widths."""

DEFAULT_NOISE = 0.01
"""Relative noise of a latency where none was measured."""

DOUBLING = 3.0
"""Price of each doubling of the step, in units of the criterion (twice the log-likelihood)."""

LEAST_NOISE = 1e-6
"""No sweep is taken to be more precise than this."""


DEGREES = (0, 1, 2, 3)
"""Polynomials that stand for a smooth latency: cache sizes bend it, and none of them has steps."""


@dataclass(frozen=True)
class Grain:
    """The step of a latency staircase.

    Attributes:
        step: channels per step; 1 when nothing coarser is proven.
        evidence: how much better the step explains the sweep than a smooth curve does, in units of the
            criterion (twice the log-likelihood ratio less the price of the parameters); 0 when `step` is 1.
            Above 10 is beyond doubt.
        scores: the criterion of every step that was tried; the smallest won.
        points: latencies in the sweep (or sweeps).
    """

    step: int
    evidence: float
    scores: Mapping[int, float]
    points: int


def learn_grain(widths: ArrayLike, latencies_ms: ArrayLike, noise: float = DEFAULT_NOISE) -> Grain:
    """Learn the step of the staircase from a sweep of one convolution's output channels.

    For each step s the latency is fitted, by least squares on relative residuals, as a function of
    ``ceil(width / s) * s``: as a polynomial of degree 1 to 3 (0 too for s = 1), or, for s above 1, with a
    level of its own for each block. Free levels matter: onnxruntime with AVX2 takes four blocks of 8 at once,
    so its steps are far from equal in height.

    Curves are compared by ``n log(mean squared residual + noise²) + log(n) parameters + DOUBLING log2(s)``:
    the Bayesian information criterion with a likelihood that gains little from residuals below the noise, and
    a price for each doubling of the step. So a coarser step must earn its place, and among steps that explain
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
    known_noise = noise if math.isfinite(noise) else DEFAULT_NOISE
    plain = {
        step: _criterion(np.ceil(channels / step), latency, step, max(known_noise, LEAST_NOISE))
        for step in STEPS
        if step == 1 or step <= channels.max()
    }
    return _best(plain, len(channels))


def pool_grains(grains: Sequence[Grain]) -> Grain:
    """The grain on which several sweeps of one device agree best.

    Every sweep keeps its own curve. The criteria are added, so a sweep that was disturbed has little to say,
    and the price of a step is paid once. Steps that one of the sweeps was too narrow to show are left out.
    Without sweeps the step is 1.
    """
    if not grains:
        return Grain(1, 0.0, {1: 0.0}, 0)
    common = [step for step in STEPS if all(step in grain.scores for grain in grains)]
    plain = {step: math.fsum(grain.scores[step] - _price(step) for grain in grains) for step in common}
    return _best(plain, sum(grain.points for grain in grains))


def _price(step: int) -> float:
    return DOUBLING * math.log2(step)


def _best(plain: Mapping[int, float], points: int) -> Grain:
    scores = {step: score + _price(step) for step, score in plain.items()}
    step = min(scores, key=lambda s: (scores[s], s))
    return Grain(step, scores[1] - scores[step], scores, points)


def _criterion(blocks: NDArray[np.float64], latency: NDArray[np.float64], step: int, noise: float) -> float:
    """The smallest criterion of a curve over the blocks, without the price of the step."""
    levels, level = np.unique(blocks, return_inverse=True)
    degrees = [degree for degree in DEGREES if degree + 1 < len(levels) and (degree > 0 or step == 1)]
    designs = [np.vander(blocks / blocks.max(), degree + 1) for degree in degrees]
    if step > 1 and len(levels) < len(blocks):
        designs.append(np.eye(len(levels))[level.ravel()])
    if not designs:  # two levels, or one: nothing but a line is left
        designs.append(np.vander(blocks / blocks.max(), 2))
    count = len(latency)
    scores = [
        count * math.log(_misfit(design, latency) + noise**2) + math.log(count) * int(design.shape[1])
        for design in designs
    ]
    return min(scores)


def _misfit(design: NDArray[np.float64], latency: NDArray[np.float64]) -> float:
    """Mean squared relative residual of the best combination of a design's columns."""
    relative = design / latency[:, None]
    coefficients = np.linalg.lstsq(relative, np.ones_like(latency), rcond=None)[0]
    return float(np.mean((relative @ coefficients - 1) ** 2))
