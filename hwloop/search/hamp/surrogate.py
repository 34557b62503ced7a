"""A Gaussian process that guesses an expensive objective from the variables, and says how sure it is.

The kernel is a Matern one with noise; over a long length, as it is found here, that is nearly a quadratic: an effect
of each variable, and of pairs. Variables are stretched by how much they matter, which a ridge regression tells (the
layers' sensitivities). The target is taken as it is, or as its logarithm, whichever predicts left-out points in the
better order.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.optimize import minimize
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import euclidean_distances

FloatArray = NDArray[np.float64]

MOST_LEARNT_FROM = 600
"""Points that it is fitted on; the time grows with their third power."""

TUNED_ON = 150
"""Points on which the kernel's parameters are fitted."""

RETUNED_AFTER = 1.3
"""The kernel's parameters are fitted again when the points have become so many times more."""

STRETCH = (0.4, 2.5)
"""Least and most that a variable is stretched."""


@dataclass
class Surrogate:
    """Guesses one objective."""

    _kernel: Kernel | None = field(default=None, repr=False)
    _logarithm: bool = False
    _tuned_at: int = 0
    _low: float = 0.0
    _unit: float = 1.0
    _stretch: FloatArray = field(default_factory=lambda: np.ones(0), repr=False)
    _process: GaussianProcessRegressor | None = field(default=None, repr=False)

    def fit(self, x: FloatArray, y: FloatArray) -> None:
        """Learn from (n, v) points with variables from 0 to 1 and their (n,) values, the important ones last."""
        x, y = x[-MOST_LEARNT_FROM:], y[-MOST_LEARNT_FROM:]
        self._low, self._unit = float(y.min()), max(float(np.ptp(y)), 1e-12)
        if self._kernel is None or len(x) >= RETUNED_AFTER * self._tuned_at or len(x) < self._tuned_at:
            self._tune(x[-TUNED_ON:], y[-TUNED_ON:])
            self._tuned_at = len(x)
        self._stretch = _stretch(x, self._forward(y))
        self._process = _process(self._kernel, optimise=False).fit(x * self._stretch, self._forward(y))

    def mean(self, x: FloatArray) -> FloatArray:
        """(n,) guesses at (n, v) points."""
        process = self._process
        assert process is not None
        # As `process.predict`, in half the time: a walk asks for thousands of points.
        amplitude, matern = process.kernel_.k1.k1, process.kernel_.k1.k2
        distance = np.sqrt(5) / matern.length_scale * euclidean_distances(x * self._stretch, process.X_train_)
        covariance = amplitude.constant_value * (1 + distance + distance**2 / 3) * np.exp(-distance)
        even = covariance @ process.alpha_
        return self._backward(even * process._y_train_std + process._y_train_mean)

    def optimistic(self, x: FloatArray, sigmas: float) -> FloatArray:
        """(n,) guesses that are so many standard deviations lower."""
        assert self._process is not None
        mean, deviation = self._process.predict(x * self._stretch, return_std=True)
        return self._backward(mean - sigmas * deviation)

    def deviation(self, x: FloatArray) -> FloatArray:
        """(n,) standard deviations, in units of its own."""
        assert self._process is not None
        return np.asarray(self._process.predict(x * self._stretch, return_std=True)[1], dtype=np.float64)

    def _tune(self, x: FloatArray, y: FloatArray) -> None:
        found = []
        for self._logarithm in (False, True):
            target = self._forward(y)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is as good as any
                process = _process(self._kernel, optimise=True).fit(x * _stretch(x, target), target)
            found.append((_order_left_out(process, target), process.kernel_, self._logarithm))
        _, self._kernel, self._logarithm = max(found, key=lambda each: each[0])

    def _forward(self, y: FloatArray) -> FloatArray:
        share = (y - self._low) / self._unit
        return np.log(share + 0.05) if self._logarithm else share

    def _backward(self, target: FloatArray) -> FloatArray:
        share = np.exp(np.minimum(target, 2.0)) - 0.05 if self._logarithm else target
        return np.asarray(self._low + share * self._unit, dtype=np.float64)


def _process(kernel: Kernel | None, *, optimise: bool) -> GaussianProcessRegressor:
    begin = kernel or ConstantKernel(1.0, (1e-3, 1e3)) * Matern(5.0, (0.5, 1e2), nu=2.5) + WhiteKernel(
        1e-2, (1e-6, 1e0)
    )
    return GaussianProcessRegressor(begin, optimizer=_minimise if optimise else None, normalize_y=True, alpha=1e-8)


def _minimise(objective, start, bounds):  # type: ignore[no-untyped-def]  # called by scikit-learn
    """A few steps are enough: the parameters are fitted again as points come in."""
    result = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 12})
    return result.x, result.fun


def _stretch(x: FloatArray, target: FloatArray) -> FloatArray:
    """(v,) factors of the variables: the root of how much they matter, compared with the others."""
    slopes = np.abs(Ridge(alpha=1.0).fit(x, target).coef_)
    return np.asarray(np.clip(np.sqrt(slopes / max(slopes.mean(), 1e-12)), *STRETCH), dtype=np.float64)


def _order_left_out(process: GaussianProcessRegressor, target: FloatArray) -> float:
    """Rank correlation of the targets with what the process says of each when it is left out; 0 of equal targets."""
    if np.ptp(target) == 0:
        return 0.0
    inverse = cho_solve((process.L_, True), np.eye(len(target)))
    left_out = process.y_train_ - process.alpha_ / np.diag(inverse)
    return float(np.corrcoef(rankdata(left_out), rankdata(target))[0, 1])
