"""From the sum of isolated layers to the latency of the whole network.

Isolated layers do not add up to a network: every isolated run pays the dispatch of a session and the reorders of its
input and output, caches are warm or cold otherwise, and where a kernel cannot read blocks the network reorders, not
the layer (`layer_features.LayerTraffic`). What whole networks teach about that is the ratio of latency to sum, as a
Gaussian process: a weighted sum of few physical terms, each drawn to nothing unless the networks speak for it, and a
smooth bend over the sizes of the network. In the weights' view this is Bayesian ridge regression (Rasmussen and
Williams 2006, section 2.1), so thirty networks can carry many terms. How strong each term may be is learned by the
marginal likelihood (ibid., section 5.4.1), which draws those that explain nothing to nothing; only few networks
cannot say so much, and get a simpler form. Leave-one-out is in closed form (ibid., section 5.4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

SCALE, PER_NETWORK, PER_LAYER, ACTIVATIONS, WEIGHTS, PART_BLOCKS, PLAIN_READS, GEOMETRY, STREAM, BEND = range(10)

PARTS = 6
"""Columns of `NetworkTerms.parts`: from `PER_NETWORK` to `PLAIN_READS`."""

PART_NAMES = (
    "scale of the sum",
    "per network",
    "per layer",
    "bytes of activations",
    "bytes of weights",
    "bytes written in part blocks",
    "bytes read out of blocks",
    "kinds of layers",
    "bytes of weights beyond the caches",
    "size of the network",
)
"""The parts of a correction, for people; by code."""

FORMS: Mapping[str, tuple[int, ...]] = {
    "scale": (SCALE,),
    "line": (SCALE, PER_NETWORK, PER_LAYER),
    "terms": tuple(range(BEND)),
    "bend": tuple(range(BEND + 1)),
}
"""Parts of each form, from the simplest to the richest."""

FEWEST_NETWORKS: Mapping[str, int] = {"scale": 1, "line": 4, "terms": 8, "bend": 12}

PRIOR_LOGS = np.log([0.2, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03, 0.1, 0.05, 0.05, 1.0, 0.015])
"""Expected size of each part as a share of the sum, length scale of the bend, noise: relative."""

PRIOR_SPREADS = np.array([0.5, 1.0, 1.0, 1.2, 1.2, 1.2, 1.2, 0.8, 1.2, 0.8, 0.5, 0.6])

STREAM_SCALE = 0.5
"""Over which difference of the logarithm of all bytes of weights their price changes: it rises where they outgrow a
cache, which they have left again when the network's next run asks for them."""

BEND_SCALE, NOISE = 10, 11

HUBER = 2.0
"""A network whose leave-one-out residual is beyond so many standard deviations is taken for disturbed: it gets more
noise."""

ROBUST_FROM = 8
"""Fewer networks cannot outvote a disturbed one."""

ROUNDS = 3

FLOOR = 0.05
"""No network is predicted to take less than this share of its layers."""


@dataclass(frozen=True)
class NetworkTerms:
    """What the correction knows of n networks.

    Attributes:
        sums_ms: (n,) sums of the layers, positive.
        parts: (n, 6) number of networks (1), executed layers, bytes of activations, bytes of weights, bytes of tensors
            written in part blocks, bytes read out of blocks (see `layer_features.LayerTraffic`).
        geometries_ms: (n, g) the sums by geometry.
    """

    sums_ms: FloatArray
    parts: FloatArray
    geometries_ms: FloatArray

    def __len__(self) -> int:
        return len(self.sums_ms)

    def __getitem__(self, rows: Any) -> NetworkTerms:
        return NetworkTerms(self.sums_ms[rows], self.parts[rows], self.geometries_ms[rows])


@dataclass(frozen=True)
class Corrected:
    """Latencies of n networks.

    Attributes:
        latency_ms: (n,).
        spread: (n,) standard deviation relative to the latency, the noise of one measurement included.
        left_out_ms: (k, n) by the correction without each of its k networks.
    """

    latency_ms: FloatArray
    spread: FloatArray
    left_out_ms: FloatArray


@dataclass(frozen=True)
class _Solution:
    """A process given its k networks.

    Attributes:
        features: of them.
        inverse: (k, k) of their covariance.
        weights: (k,) of them in a prediction.
    """

    features: Features
    inverse: FloatArray
    weights: FloatArray


@dataclass(frozen=True)
class Correction:
    """A fitted correction; without networks the bare sum.

    Attributes:
        form: a name of `FORMS`, or ``none``.
        logs: hyperparameters, as `PRIOR_LOGS`.
        units: (6,) unit of each of `NetworkTerms.parts`, in ms of the sum.
        center: (3,) and `width`: (3,) of the sizes that the bend is over.
        terms: of the networks that it was fitted on.
        latencies_ms: (k,) of them.
        noise_factors: (k,) above 1 for those that look disturbed.
        leave_one_out_error: mean absolute relative error; nan for fewer than two networks.
    """

    form: str = "none"
    logs: FloatArray = field(default_factory=lambda: PRIOR_LOGS)
    units: FloatArray = field(default_factory=lambda: np.ones(PARTS))
    center: FloatArray = field(default_factory=lambda: np.zeros(3))
    width: FloatArray = field(default_factory=lambda: np.ones(3))
    terms: NetworkTerms | None = None
    latencies_ms: FloatArray = field(default_factory=lambda: np.zeros(0))
    noise_factors: FloatArray = field(default_factory=lambda: np.ones(0))
    leave_one_out_error: float = float("nan")

    @cached_property
    def _solution(self) -> _Solution | None:
        """The process given its networks; None without any."""
        if self.terms is None:
            return None
        features = self._features(self.terms)
        covariance = self._kernel(features, features) + np.diag(self._noise() ** 2)
        inverse = cho_solve((cholesky(covariance, lower=True), True), np.eye(len(covariance)))
        return _Solution(features, inverse, inverse @ (self._ratios() - 1))

    @property
    def networks(self) -> int:
        """How many networks it was fitted on."""
        return len(self.latencies_ms)

    def apply(self, terms: NetworkTerms) -> Corrected:
        """The latencies of n networks."""
        solution = self._solution
        if solution is None:
            return Corrected(terms.sums_ms, np.zeros(len(terms)), np.zeros((0, len(terms))))
        features = self._features(terms)
        cross = self._kernel(features, solution.features)
        weights, inverse = solution.weights, solution.inverse
        ratio = np.maximum(1 + cross @ weights, FLOOR)
        solved = cross @ inverse
        variance = np.maximum(self._diagonal(features) - (solved * cross).sum(1), 0)
        without = 1 + (cross @ weights)[None, :] - solved.T * (weights / np.diag(inverse))[:, None]
        noise = float(np.exp(self.logs[NOISE]))
        # The noise is relative to the latency, as measurements are.
        spread = np.sqrt(variance / ratio**2 + noise**2)
        return Corrected(terms.sums_ms * ratio, spread, terms.sums_ms * np.maximum(without, FLOOR))

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """(k,) latency of each network by the correction without it, and the (k,) relative spread of that."""
        solution = self._solution
        if self.terms is None or solution is None:
            return np.zeros(0), np.zeros(0)
        own = np.diag(solution.inverse)
        ratios = np.maximum(self._ratios() - solution.weights / own, FLOOR)
        noise = float(np.exp(self.logs[NOISE]))
        variance = np.maximum(1 / own - self._noise() ** 2, 0)
        return self.terms.sums_ms * ratios, np.sqrt(variance / ratios**2 + noise**2)

    def contributions_ms(self, terms: NetworkTerms) -> dict[str, FloatArray]:
        """What each part adds to the bare sum, in ms, (n,) each; they add up to the correction."""
        solution = self._solution
        if solution is None:
            return {}
        features, found = self._features(terms), {}
        for part in FORMS[self.form]:
            cross = self._kernel(features, solution.features, only=part)
            found[PART_NAMES[part]] = terms.sums_ms * (cross @ solution.weights)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        terms = self.terms
        error = self.leave_one_out_error
        return {
            "form": self.form,
            "logs": self.logs.tolist(),
            "units": self.units.tolist(),
            "center": self.center.tolist(),
            "width": self.width.tolist(),
            "sums_ms": [] if terms is None else terms.sums_ms.tolist(),
            "parts": [] if terms is None else terms.parts.tolist(),
            "geometries_ms": [] if terms is None else terms.geometries_ms.tolist(),
            "latencies_ms": self.latencies_ms.tolist(),
            "noise_factors": self.noise_factors.tolist(),
            "leave_one_out_error": None if np.isnan(error) else error,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Correction:
        """The inverse of `to_dict`."""
        arrays = {
            name: np.array(content[name], dtype=np.float64)
            for name in ("logs", "units", "center", "width", "latencies_ms", "noise_factors")
        }
        matrices = [np.array(content[name], dtype=np.float64) for name in ("sums_ms", "parts", "geometries_ms")]
        terms = NetworkTerms(*matrices) if content["sums_ms"] else None
        error = content["leave_one_out_error"]
        return cls(content["form"], terms=terms, leave_one_out_error=float("nan") if error is None else error, **arrays)

    def _ratios(self) -> FloatArray:
        assert self.terms is not None
        return np.asarray(self.latencies_ms / self.terms.sums_ms, dtype=np.float64)

    def _noise(self) -> FloatArray:
        return np.asarray(np.exp(self.logs[NOISE]) * self._ratios() * self.noise_factors, dtype=np.float64)

    def _features(self, terms: NetworkTerms) -> Features:
        return _features(terms, self.units, self.center, self.width)

    def _kernel(self, first: Features, second: Features, only: int | None = None) -> FloatArray:
        return _kernel(_grams(first, second, FORMS[self.form] if only is None else (only,)), self.logs)

    def _diagonal(self, features: Features) -> FloatArray:
        linear, shares, *_ = features
        sizes = np.exp(2 * self.logs)
        total = np.zeros(len(linear))
        for part in FORMS[self.form]:
            if part in (SCALE, BEND):
                total += sizes[part]
            elif part == GEOMETRY:
                total += sizes[part] * (shares**2).sum(1)
            else:
                total += sizes[part] * linear[:, (WEIGHTS if part == STREAM else part) - 1] ** 2
        return total


Features = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""(n, 6) parts relative to the sum, (n, g) shares of the geometries, (n, 3) sizes of the network in units of their
spread, (n,) logarithm of its bytes of weights."""


def _features(terms: NetworkTerms, units: FloatArray, center: FloatArray, width: FloatArray) -> Features:
    sums = terms.sums_ms[:, None]
    sizes = _sizes(terms)
    return terms.parts * units / sums, terms.geometries_ms / sums, (sizes - center) / width, sizes[:, 1]


def _sizes(terms: NetworkTerms) -> FloatArray:
    """(n, 3) logarithms of the sum, of the bytes of weights, and of the activations."""
    activations, weights = terms.parts[:, 2], terms.parts[:, 3]
    sizes: FloatArray = np.log(np.stack([terms.sums_ms, weights + 1, activations + 1], axis=1))
    return sizes


def _grams(first: Features, second: Features, parts: Sequence[int]) -> dict[int, FloatArray]:
    """What does not depend on the hyperparameters: inner products, and squared distances for the bend."""
    found: dict[int, FloatArray] = {}
    for part in parts:
        if part == SCALE:
            found[part] = np.ones((len(first[0]), len(second[0])))
        elif part == GEOMETRY:
            found[part] = first[1] @ second[1].T
        elif part == STREAM:
            apart = (first[3][:, None] - second[3][None, :]) / STREAM_SCALE
            found[part] = np.outer(first[0][:, WEIGHTS - 1], second[0][:, WEIGHTS - 1]) * np.exp(-0.5 * apart**2)
        elif part == BEND:
            a, b = first[2], second[2]
            found[part] = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0)
        else:
            found[part] = np.outer(first[0][:, part - 1], second[0][:, part - 1])
    return found


def _kernel(grams: Mapping[int, FloatArray], logs: FloatArray) -> FloatArray:
    total: FloatArray | None = None
    for part, gram in grams.items():
        size = np.exp(2 * logs[part])
        added = size * (np.exp(-0.5 * gram / np.exp(2 * logs[BEND_SCALE])) if part == BEND else gram)
        total = added if total is None else total + added
    assert total is not None
    return total


def fit_correction(terms: NetworkTerms, latencies_ms: FloatArray, form: str | None = None) -> Correction:
    """Fit the correction on measured networks.

    Args:
        terms: of k networks.
        latencies_ms: (k,) measured latencies, positive.
        form: a name of `FORMS`; by default the richest that so many networks can carry.

    Returns:
        The correction; of form ``none`` when there is no network.
    """
    count = len(latencies_ms)
    if count == 0:
        return Correction()
    richest = max((fewest, name) for name, fewest in FEWEST_NETWORKS.items() if count >= fewest)[1]
    return _fit(terms, latencies_ms, form or richest)


def _fit(terms: NetworkTerms, latencies: FloatArray, form: str) -> Correction:
    count = len(latencies)
    # Each part in units in which it is as large as the sum in the average network, so that one prior suits all.
    means = (terms.parts / terms.sums_ms[:, None]).mean(0)
    units = np.where(means > 0, 1 / np.where(means > 0, means, 1), 0.0)
    sizes = _sizes(terms)
    center, width = sizes.mean(0), np.maximum(sizes.std(0), 1e-3)
    features = _features(terms, units, center, width)
    grams = _grams(features, features, FORMS[form])
    ratios = latencies / terms.sums_ms
    free = [*FORMS[form], *([BEND_SCALE] if BEND in FORMS[form] else []), NOISE]
    factors = np.ones(count)
    logs = PRIOR_LOGS.copy()
    for _ in range(ROUNDS if count >= ROBUST_FROM else 1):
        logs = _most_probable(grams, ratios, factors, free, logs)
        found = Correction(form, logs, units, center, width, terms, latencies, factors)
        predicted, spread = found.left_out()
        wide = np.abs(latencies / predicted - 1) / spread
        factors = np.maximum(1, wide / HUBER) if count >= ROBUST_FROM else factors
    error = float(np.abs(predicted / latencies - 1).mean()) if count > 1 else float("nan")
    return Correction(form, logs, units, center, width, terms, latencies, found.noise_factors, error)


def _most_probable(
    grams: Mapping[int, FloatArray], ratios: FloatArray, factors: FloatArray, free: Sequence[int], start: FloatArray
) -> FloatArray:
    """The hyperparameters with the largest posterior; those that are not `free` stay at their prior."""
    noise_shape = (ratios * factors) ** 2
    left = ratios - 1

    def loss(values: FloatArray) -> float:
        logs = start.copy()
        logs[free] = np.clip(values, -12, 4)
        covariance = _kernel(grams, logs)
        covariance = covariance + np.diag(np.exp(2 * logs[NOISE]) * noise_shape + 1e-10)
        chol = cholesky(covariance, lower=True, check_finite=False)
        half = solve_triangular(chol, left, lower=True, check_finite=False)
        prior = 0.5 * float((((values - PRIOR_LOGS[free]) / PRIOR_SPREADS[free]) ** 2).sum())
        return 0.5 * float(half @ half) + float(np.log(np.diag(chol)).sum()) + prior

    found = minimize(loss, start[free], method="L-BFGS-B", options={"maxiter": 50})
    logs = start.copy()
    logs[free] = np.clip(found.x, -12, 4)
    return logs
