"""The correction finds the line behind whole networks, and no more than the networks prove."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.predictors import Correction, fit_correction
from hwloop.predictors.correction import fit_without_each

RNG = np.random.default_rng(0)
SUMS = RNG.uniform(0.5, 4.0, 40)
MOVED = SUMS * 4e6 * RNG.uniform(0.3, 1.7, 40)
PROBE = np.array([0.7, 1.0, 3.0])
PROBE_MOVED = np.array([3e6, 2e6, 9e6])


def noise(share: float, seed: int = 1) -> np.ndarray:
    return np.exp(share * np.random.default_rng(seed).standard_normal(40))


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 2.0), st.floats(-0.1, 0.5))
def test_an_exact_line_is_found(scale: float, offset: float) -> None:
    fitted = fit_correction(SUMS, MOVED, scale * SUMS + offset)
    assert fitted.apply(PROBE, PROBE_MOVED) == pytest.approx(scale * PROBE + offset, rel=0.01)


def test_bytes_are_used_only_where_they_pay() -> None:
    line = fit_correction(SUMS, MOVED, (0.9 * SUMS + 0.1) * noise(0.02))
    assert line.form == "line"
    assert line.ms_per_byte == 0
    heavy = fit_correction(SUMS, MOVED, (0.5 * SUMS + 0.1 + 2e-7 * MOVED) * noise(0.01))
    assert heavy.form == "bytes"
    assert heavy.ms_per_byte == pytest.approx(2e-7, rel=0.1)


def test_a_sum_that_is_already_right_is_only_scaled() -> None:
    fitted = fit_correction(SUMS, MOVED, SUMS * noise(0.02))
    assert fitted.form == "scale"
    assert fitted.scale == pytest.approx(1, abs=0.02)


def test_one_disturbed_network_does_not_move_the_line() -> None:
    latencies = (0.9 * SUMS + 0.1) * noise(0.01)
    disturbed = latencies.copy()
    disturbed[7] *= 3
    clean, robust = (fit_correction(SUMS, MOVED, y).apply(PROBE, PROBE_MOVED) for y in (latencies, disturbed))
    assert robust == pytest.approx(clean, rel=0.01)


def test_without_networks_the_sum_stays_as_it_is() -> None:
    nothing = np.zeros(0)
    fitted = fit_correction(nothing, nothing, nothing)
    assert fitted == Correction() or math.isnan(fitted.leave_one_out_error)
    assert (fitted.form, fitted.networks) == ("none", 0)
    assert (fitted.apply(PROBE, PROBE_MOVED) == PROBE).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_networks_give_a_scale_and_nothing_else(count: int) -> None:
    fitted = fit_correction(SUMS[:count], MOVED[:count], 0.8 * SUMS[:count])
    assert (fitted.form, fitted.networks) == ("scale", count)
    assert fitted.scale == pytest.approx(0.8, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_no_measurements_ever_make_a_prediction_negative(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fitted = fit_correction(SUMS[:count], MOVED[:count], rng.uniform(0.01, 5, count))
    assert (fitted.apply(np.array([1e-3, 0.1, 1.0, 50.0]), np.array([1.0, 1e5, 1e6, 1e8])) > 0).all()
    assert fitted.scale >= 0
    assert fitted.ms_per_byte >= 0


def test_leaving_each_out_at_once_equals_fitting_without_it() -> None:
    latencies = (0.9 * SUMS + 0.1 + 1e-8 * MOVED) * noise(0.03)
    together = fit_without_each(SUMS[:20], MOVED[:20], latencies[:20])
    for index, fitted in enumerate(together):
        kept = np.arange(20) != index
        alone = fit_correction(SUMS[:20][kept], MOVED[:20][kept], latencies[:20][kept])
        assert (fitted.form, fitted.networks) == (alone.form, 19)
        assert fitted.apply(PROBE, PROBE_MOVED) == pytest.approx(alone.apply(PROBE, PROBE_MOVED), rel=1e-9)
        assert fitted.floor == alone.floor
