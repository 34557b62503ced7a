"""The correction finds what makes a network other than its layers, and no more than the networks prove."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.predictors import Correction, NetworkTerms, fit_correction
from hwloop.predictors.correction import FORMS

LAYERS = 20


def networks(count: int, seed: int = 0) -> NetworkTerms:
    """Of two geometries in varying shares."""
    rng = np.random.default_rng(seed)
    geometries = rng.uniform(0.2, 2.0, (count, 2))
    sums = geometries.sum(axis=1)
    weights = sums * 1e6 * rng.uniform(0.3, 1.7, count)
    moved = sums * 4e6 * rng.uniform(0.3, 1.7, count)
    narrow = 0.1 * moved * rng.integers(0, 2, count)
    parts = np.stack([np.ones(count), np.full(count, LAYERS), moved, weights, 0.1 * moved, narrow], axis=1)
    return NetworkTerms(sums, parts, geometries)


def noise(count: int, share: float, seed: int = 1) -> np.ndarray:
    return np.exp(share * np.random.default_rng(seed).standard_normal(count))


KNOWN, PROBE = networks(30), networks(50, seed=9)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.4, 1.6), st.floats(-0.05, 0.3))
def test_a_line_is_found(scale: float, offset: float) -> None:
    fitted = fit_correction(KNOWN, scale * KNOWN.sums_ms + offset)
    assert fitted.apply(PROBE).latency_ms == pytest.approx(scale * PROBE.sums_ms + offset, rel=0.03)


def test_a_kind_of_layer_that_costs_less_in_a_network_is_found_out() -> None:
    def true(terms: NetworkTerms) -> np.ndarray:
        return 0.7 * terms.geometries_ms[:, 0] + 1.0 * terms.geometries_ms[:, 1] + 2e-8 * terms.parts[:, 2]

    latencies = true(KNOWN) * noise(30, 0.01)
    fitted, scaled = fit_correction(KNOWN, latencies), fit_correction(KNOWN, latencies, "scale")
    errors = [np.abs(one.apply(PROBE).latency_ms / true(PROBE) - 1).max() for one in (fitted, scaled)]
    assert errors[0] < 0.03 < errors[1]


def test_reorders_that_only_the_network_does_are_found() -> None:
    def true(terms: NetworkTerms) -> np.ndarray:
        return 0.9 * terms.sums_ms + 4e-7 * terms.parts[:, 5]

    fitted = fit_correction(KNOWN, true(KNOWN) * noise(30, 0.01))
    scaled = fit_correction(KNOWN, true(KNOWN) * noise(30, 0.01), "line")
    errors = [np.abs(one.apply(PROBE).latency_ms / true(PROBE) - 1).max() for one in (fitted, scaled)]
    assert errors[0] < 0.03 < errors[1]


def test_weights_that_outgrow_a_cache_cost_more_from_there_on() -> None:
    def true(terms: NetworkTerms) -> np.ndarray:
        return 0.9 * terms.sums_ms + 2e-7 * np.maximum(terms.parts[:, 3] - 2e6, 0)

    fitted = fit_correction(KNOWN, true(KNOWN) * noise(30, 0.01))
    straight = fit_correction(KNOWN, true(KNOWN) * noise(30, 0.01), "line")
    errors = [np.abs(one.apply(PROBE).latency_ms / true(PROBE) - 1).max() for one in (fitted, straight)]
    assert errors[0] < 0.04 < errors[1]


@pytest.mark.parametrize(("count", "form"), [(1, "scale"), (4, "line"), (8, "terms"), (12, "bend"), (30, "bend")])
def test_few_networks_get_a_simple_form(count: int, form: str) -> None:
    assert fit_correction(KNOWN[:count], KNOWN.sums_ms[:count]).form == form


def test_a_sum_that_is_already_right_stays_as_it_is() -> None:
    fitted = fit_correction(KNOWN, KNOWN.sums_ms * noise(30, 0.02))
    assert fitted.apply(PROBE).latency_ms == pytest.approx(PROBE.sums_ms, rel=0.02)


def test_one_disturbed_network_hardly_moves_the_others() -> None:
    latencies = (0.9 * KNOWN.sums_ms + 0.1) * noise(30, 0.01)
    disturbed = latencies.copy()
    disturbed[7] *= 1.5
    clean, robust = (fit_correction(KNOWN, one, "line").apply(PROBE).latency_ms for one in (latencies, disturbed))
    assert robust == pytest.approx(clean, rel=0.03)


def test_without_networks_the_sum_stays_as_it_is() -> None:
    fitted = fit_correction(networks(0), np.zeros(0))
    assert (fitted.form, fitted.networks) == ("none", 0)
    assert (fitted.apply(PROBE).latency_ms == PROBE.sums_ms).all()
    assert fitted.left_out()[0].shape == (0,)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_networks_give_a_scale_and_nothing_else(count: int) -> None:
    few = KNOWN[:count]
    fitted = fit_correction(few, 0.8 * few.sums_ms)
    assert (fitted.form, fitted.networks) == ("scale", count)
    assert fitted.apply(PROBE).latency_ms == pytest.approx(0.8 * PROBE.sums_ms, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 1000))
def test_no_measurements_ever_make_a_prediction_negative(count: int, seed: int) -> None:
    fitted = fit_correction(KNOWN[:count], np.random.default_rng(seed).uniform(0.01, 5, count))
    corrected = fitted.apply(PROBE)
    assert (corrected.latency_ms > 0).all()
    assert (corrected.left_out_ms > 0).all()
    assert np.isfinite(corrected.spread).all()


@pytest.mark.parametrize("form", list(FORMS))
def test_leaving_one_out_in_closed_form_equals_leaving_it_out(form: str) -> None:
    latencies = (0.9 * KNOWN.sums_ms + 0.1) * noise(30, 0.03)
    fitted = fit_correction(KNOWN, latencies, form)
    predicted, _ = fitted.left_out()
    everywhere = fitted.apply(KNOWN).left_out_ms
    for index in (0, 11, 29):
        kept = np.arange(30) != index
        alone = Correction(
            form,
            fitted.logs,
            fitted.units,
            fitted.center,
            fitted.width,
            KNOWN[kept],
            latencies[kept],
            fitted.noise_factors[kept],
        )
        assert predicted[index] == pytest.approx(alone.apply(KNOWN).latency_ms[index], rel=1e-6)
        assert everywhere[index] == pytest.approx(alone.apply(KNOWN).latency_ms, rel=1e-6)


def test_the_terms_add_up_to_the_correction() -> None:
    fitted = fit_correction(KNOWN, (0.9 * KNOWN.sums_ms + 0.1) * noise(30, 0.02), "bend")
    added = sum(fitted.contributions_ms(PROBE).values())
    assert PROBE.sums_ms + added == pytest.approx(fitted.apply(PROBE).latency_ms, rel=1e-9)


def test_networks_unlike_the_measured_ones_get_a_wider_spread() -> None:
    fitted = fit_correction(KNOWN, (0.9 * KNOWN.sums_ms + 0.1) * noise(30, 0.02), "line")
    tiny = NetworkTerms(KNOWN.sums_ms / 50, KNOWN.parts, KNOWN.geometries_ms / 50)
    assert (fitted.apply(tiny).spread > 1.5 * fitted.apply(KNOWN).spread).all()


def test_it_survives_json_to_the_last_bit() -> None:
    fitted = fit_correction(KNOWN, (0.9 * KNOWN.sums_ms + 0.1) * noise(30, 0.02))
    again = Correction.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again.apply(PROBE).latency_ms.tobytes() == fitted.apply(PROBE).latency_ms.tobytes()
    assert again.apply(PROBE).spread.tobytes() == fitted.apply(PROBE).spread.tobytes()
