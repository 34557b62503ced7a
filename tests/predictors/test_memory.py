"""Peak memory is a base plus copies of weights and activations, through the noise of real processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.predictors import MemoryModel, fit_memory


def networks(size: float, count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1.0, count) * size, rng.uniform(0.1, 1.0, count) * size / 3


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 4), st.floats(0.5, 4), st.floats(2e7, 2e8))
def test_large_networks_show_their_copies(weights: float, activations: float, base: float) -> None:
    w, a = networks(200e6)
    fitted = fit_memory(w, a, base + weights * w + activations * a)
    assert fitted.weight_copies == pytest.approx(weights, rel=0.02)
    assert fitted.activation_copies == pytest.approx(activations, rel=0.05)
    assert fitted.base_bytes == pytest.approx(base, rel=0.05)


def test_small_networks_keep_the_expected_copies_when_noise_hides_them() -> None:
    w, a = networks(0.2e6)
    peaks = 60e6 + 2 * w + a + 0.5e6 * np.random.default_rng(1).standard_normal(40)
    fitted = fit_memory(w, a, peaks)
    assert 0 <= fitted.weight_copies <= 4
    assert 0 <= fitted.activation_copies <= 4
    assert np.abs(fitted.apply(w, a) / (60e6 + 2 * w + a) - 1).max() < 0.01


def test_a_process_that_kept_garbage_does_not_move_the_model() -> None:
    w, a = networks(100e6)
    peaks = 60e6 + 2 * w + a + 0.3e6 * np.random.default_rng(1).standard_normal(40)
    odd = peaks.copy()
    odd[3] += 80e6
    clean, robust = (fit_memory(w, a, y).apply(w, a) for y in (peaks, odd))
    assert robust == pytest.approx(clean, rel=0.01)


def test_copies_are_never_negative() -> None:
    w, a = networks(100e6)
    fitted = fit_memory(w, a, 500e6 - 2 * w - a)
    assert fitted.weight_copies >= 0
    assert fitted.activation_copies >= 0


def test_one_or_two_networks_give_the_base_only() -> None:
    fitted = fit_memory(np.array([1e6]), np.array([2e6]), np.array([63e6]))
    assert fitted == MemoryModel(60e6, 1.0, 1.0, 1)


def test_without_measurements_there_is_no_prediction() -> None:
    fitted = fit_memory(np.zeros(0), np.zeros(0), np.zeros(0))
    assert fitted.networks == 0
    assert math.isnan(fitted.apply(np.array([1e6]), np.array([1e6]))[0])
    assert fitted.to_dict()["base_bytes"] is None
    assert MemoryModel.from_dict(fitted.to_dict()).networks == 0
