"""A Gaussian process whose parameters are the most probable ones, with the exact answers of it without each network.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006): chapter 5.4.1 for the evidence and its
derivatives, 5.4.2 for leaving one out without fitting again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from hwloop.predictors.graph.encoding import Blocks
from hwloop.predictors.graph.kernel import Kernel, Terms

FloatArray = NDArray[np.float64]

JITTER = 1e-8
"""Added to every variance: two equal networks make the covariance singular."""

MOST = 250
"""Parameters are fitted on this many networks: two dozen numbers need no more, and the cost grows with the cube."""

ROUNDS = 60
"""Steps of the optimiser from the prior; the evidence has settled by then."""

AGAIN = 15
"""Steps after the weights of the networks have changed."""

FREEDOM = 4.0
"""Degrees of freedom of Student's t for measurements of which some are disturbed (Lange, Little, Taylor 1989)."""

CROSS_FITTED = 200
"""Up to this many networks the parameters are fitted again for honest residuals."""

FOLDS = 5
"""So many times."""

PRIOR = ((-3.0, 3.0), (-3.0, 3.0), (0.5, 1.0), (-4.0, 1.0))
"""Mean and deviation of the logarithms of linear, smooth, length and noise: for standardised targets."""

FAVOURED = 0.0
"""Prior mean of the logarithm of the linear variance of blocks that are expected to explain everything."""


@dataclass(frozen=True)
class Posterior:
    """What is known of m networks.

    Attributes:
        mean: (m,).
        deviation: (m,) of a measurement: what is not known of the network, and the noise.
        mean_without: (n, m) when each of the n known networks is left out.
        deviation_without: (n, m).
    """

    mean: FloatArray
    deviation: FloatArray
    mean_without: FloatArray
    deviation_without: FloatArray


@dataclass(frozen=True)
class GaussianProcess:
    """A process given n measured networks.

    Attributes:
        kernel: of the networks.
        noise: variance of a measurement.
        blocks: of the n networks.
        targets: (n,) measured values.
        weights: (n,) below 1 where a measurement looks disturbed: its variance is noise / weight.
        prior: (3 g + 1,) most probable logarithms of the parameters and the noise beforehand.
        log_evidence: of the parameters, prior included; comparable between processes of the same targets.
    """

    kernel: Kernel
    noise: float
    blocks: Blocks
    targets: FloatArray
    weights: FloatArray
    prior: FloatArray
    log_evidence: float = float("nan")

    @cached_property
    def _inverse(self) -> FloatArray:
        covariance = self.kernel.between(self.blocks, self.blocks)
        covariance[np.diag_indices_from(covariance)] += self.noise / self.weights + JITTER
        return _inverted(covariance)

    @cached_property
    def _dual(self) -> FloatArray:
        return np.asarray(self._inverse @ self.targets, dtype=np.float64)

    def leave_one_out(self) -> tuple[FloatArray, FloatArray]:
        """(n,) target minus prediction of each network without itself, and (n,) the deviation expected of that."""
        spread = 1 / np.diag(self._inverse)
        latent = np.maximum(spread - self.noise / self.weights, 0)
        return self._dual * spread, np.sqrt(latent + self.noise)

    def mean(self, blocks: Blocks) -> FloatArray:
        """(m,) predictions alone."""
        return np.asarray(self.kernel.between(blocks, self.blocks) @ self._dual, dtype=np.float64)

    def posterior(self, blocks: Blocks) -> Posterior:
        """What is known of the m networks with these blocks."""
        across = self.kernel.between(blocks, self.blocks)
        solved = across @ self._inverse  # (m, n)
        spread = np.diag(self._inverse)
        latent = np.maximum(self.kernel.alone(blocks) - (solved * across).sum(axis=1), 0)
        mean = across @ self._dual
        return Posterior(
            mean,
            np.sqrt(latent + self.noise),
            (mean[:, None] - solved * (self._dual / spread)).T,
            np.sqrt(latent[:, None] + solved**2 / spread + self.noise).T,
        )

    def held_out(self, seed: int) -> tuple[FloatArray, FloatArray]:
        """As `leave_one_out`, with parameters that were not fitted on the network either.

        With few networks the parameters know each of them, and the residuals without it are still too small. So each
        fifth of the networks is predicted by a process that is fitted on the others alone (the folds of CV+, Barber
        et al. 2021); where there are many networks, that changes nothing.
        """
        residuals, deviations = self.leave_one_out()
        count = len(self.targets)
        if count > CROSS_FITTED:
            return residuals, deviations
        places = np.random.default_rng(seed).permutation(count)
        for fold in range(min(FOLDS, count)):
            held = places[fold::FOLDS]
            rest = np.setdiff1d(places, held)
            fitted = _fitted(
                replace(
                    self,
                    kernel=Kernel.of_logarithms(self.prior[:-1]),
                    noise=float(np.exp(self.prior[-1])),
                    blocks=tuple(rows[rest] for rows in self.blocks),
                    targets=self.targets[rest],
                    weights=np.ones(len(rest)),
                ),
                seed,
                ROUNDS,
            )
            if (self.weights != 1).any():
                fitted = fitted.robust(seed)
            found = fitted.posterior(tuple(rows[held] for rows in self.blocks))
            residuals[held], deviations[held] = self.targets[held] - found.mean, found.deviation
        return residuals, deviations

    def robust(self, seed: int) -> GaussianProcess:
        """The same process with Student's t for the noise: disturbed measurements lose weight.

        The weights are their expectations given the residuals without each network (one step of the EM algorithm
        in turn with the parameters), so that no measurement vouches for itself.
        """
        process = self
        for _ in range(2):
            process = _fitted(process._reweighted(), seed, AGAIN)
        return process._reweighted()

    def _reweighted(self) -> GaussianProcess:
        process = self
        for _ in range(3):
            residuals, deviations = process.leave_one_out()
            weights = (FREEDOM + 1) / (FREEDOM + (residuals / deviations) ** 2)
            process = replace(process, weights=weights)
        return process


def fit_process(blocks: Blocks, targets: FloatArray, seed: int, favoured: int = 0) -> GaussianProcess:
    """Fit the most probable parameters.

    Args:
        blocks: of n networks.
        targets: (n,), standardised.
        seed: of the choice of `MOST` networks that the parameters are fitted on.
        favoured: the first so many blocks are expected to explain the targets, by their linear terms.
    """
    groups = len(blocks)
    centre = np.repeat([mean for mean, _ in PRIOR], [groups, groups, groups, 1])
    centre[:favoured] = FAVOURED
    kernel = Kernel.of_logarithms(centre[:-1])
    ones = np.ones(len(targets))
    return _fitted(GaussianProcess(kernel, float(np.exp(centre[-1])), blocks, targets, ones, centre), seed, ROUNDS)


def _fitted(process: GaussianProcess, seed: int, rounds: int) -> GaussianProcess:
    """The process with its parameters moved to the most probable ones."""
    count = len(process.targets)
    some = np.random.default_rng(seed).permutation(count)[:MOST]
    terms = Terms(tuple(rows[some] for rows in process.blocks))
    targets, weights = process.targets[some], process.weights[some]
    groups = len(process.blocks)
    centre = process.prior
    spread = np.repeat([deviation for _, deviation in PRIOR], [groups, groups, groups, 1])

    def loss(logarithms: FloatArray) -> tuple[float, FloatArray]:
        covariance, derivatives = terms.covariance(Kernel.of_logarithms(logarithms[:-1]))
        noise = np.exp(logarithms[-1]) / weights
        covariance[np.diag_indices_from(covariance)] += noise + JITTER
        factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, np.eye(len(targets)))
        dual = inverse @ targets
        pull = np.outer(dual, dual) - inverse
        slopes = [float(np.vdot(pull, derivative)) for derivative in derivatives]
        slopes.append(float(np.diag(pull) @ noise))
        away = (logarithms - centre) / spread
        value = 0.5 * float(targets @ dual) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(away @ away)
        return value, -0.5 * np.array(slopes) + away / spread

    start = np.append(process.kernel.logarithms, np.log(process.noise))
    bounds = [(-14.0, 4.0)] * (2 * groups) + [(-2.0, 4.0)] * groups + [(-12.0, 1.0)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": rounds})
    kernel = Kernel.of_logarithms(np.asarray(found.x[:-1]))
    return replace(process, kernel=kernel, noise=float(np.exp(found.x[-1])), log_evidence=-float(found.fun))


def _inverted(covariance: FloatArray) -> FloatArray:
    inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(len(covariance)))
    return np.asarray(inverse, dtype=np.float64)
