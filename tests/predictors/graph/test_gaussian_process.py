"""The closed forms are what fitting without a network gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad

from hwloop.predictors.graph.gaussian_process import GaussianProcess, fit_process
from hwloop.predictors.graph.kernel import Kernel, Terms

RNG = np.random.default_rng(0)
BLOCKS = (RNG.standard_normal((30, 2)), RNG.standard_normal((30, 1)))
CLEAN = BLOCKS[0] @ [0.7, -0.4] + np.sin(2 * BLOCKS[1][:, 0])
TARGETS = CLEAN + 0.05 * RNG.standard_normal(30)


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    return fit_process(BLOCKS, TARGETS, 0)


def _without(process: GaussianProcess, index: int) -> GaussianProcess:
    rest = np.delete(np.arange(len(process.targets)), index)
    return replace(
        process,
        blocks=tuple(rows[rest] for rows in process.blocks),
        targets=process.targets[rest],
        weights=process.weights[rest],
    )


@pytest.mark.parametrize("index", [0, 7, 29])
@pytest.mark.parametrize("heavy", [False, True])
def test_leaving_one_out_is_exact(process: GaussianProcess, index: int, heavy: bool) -> None:
    one = process.robust(0) if heavy else process
    less = _without(one, index)
    here = less.posterior(tuple(rows[[index]] for rows in BLOCKS))
    residuals, deviations = one.leave_one_out()
    assert residuals[index] == pytest.approx(TARGETS[index] - here.mean[0], abs=1e-8)
    assert deviations[index] == pytest.approx(here.deviation[0], rel=1e-4)
    elsewhere = tuple(RNG.standard_normal((5, rows.shape[1])) for rows in BLOCKS)
    known, true = one.posterior(elsewhere), less.posterior(elsewhere)
    assert known.mean_without[index] == pytest.approx(true.mean, abs=1e-8)
    assert known.deviation_without[index] == pytest.approx(true.deviation, rel=1e-4)


def test_the_derivatives_of_the_covariance_are_right() -> None:
    terms = Terms(BLOCKS)
    start = np.array([-1.0, -2.0, -0.5, -1.5, 0.3, 0.6])

    def total(logarithms: np.ndarray) -> float:
        return float(terms.covariance(Kernel.of_logarithms(logarithms))[0].sum())

    def slope(logarithms: np.ndarray) -> np.ndarray:
        return np.array([part.sum() for part in terms.covariance(Kernel.of_logarithms(logarithms))[1]])

    assert check_grad(total, slope, start) < 1e-3 * np.abs(slope(start)).max()


def test_it_finds_the_signal_and_the_noise(process: GaussianProcess) -> None:
    residuals, _ = process.leave_one_out()
    assert residuals.std() < 0.5 * TARGETS.std()
    assert 0.01 < np.sqrt(process.noise) < 0.3


def test_disturbed_measurements_lose_their_weight() -> None:
    rng = np.random.default_rng(1)
    rows, unseen = rng.standard_normal((2, 100, 2))
    targets = rows @ [0.7, -0.4] + 0.05 * rng.standard_normal(100)
    targets[:8] += 2
    plain = fit_process((rows,), targets, 0)
    robust = plain.robust(0)
    assert robust.weights[:8].max() < 0.3 < np.median(robust.weights[8:])
    plain_error, robust_error = (np.abs(one.mean((unseen,)) - unseen @ [0.7, -0.4]).mean() for one in (plain, robust))
    assert robust_error < 0.5 * plain_error
