"""Whole networks are predicted from layers, corrected, and bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwloop.errors import DataError, UserError
from hwloop.layers import ScalableNetwork
from hwloop.predictors import NetworkPredictor, evaluate, explain
from hwloop.tables import LatencyTable


def peaks(network: ScalableNetwork, widths: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(len(widths)) * 50_000
    return 55e6 + 2.2 * network.weight_bytes(widths) + 1.5 * network.peak_activation_bytes(widths) + noise


@pytest.fixture(scope="module")
def raw(small: ScalableNetwork, small_table: LatencyTable) -> NetworkPredictor:
    return NetworkPredictor(small, small_table)


def fitted(bench: Any, raw: NetworkPredictor, count: int, noise: float = 0.01, **options: Any) -> NetworkPredictor:
    widths = bench.candidates(raw.scalable, count, seed=11)
    latencies = bench.true_network_ms(raw.scalable, widths, noise, seed=12)
    return raw.fit(widths, latencies, peaks(raw.scalable, widths, 13), **options)


def test_an_unfitted_predictor_gives_the_sum_and_promises_nothing(bench: Any, raw: NetworkPredictor) -> None:
    prediction = raw.predict(bench.candidates(raw.scalable, 5))
    assert (prediction.latency_ms == prediction.sum_of_layers_ms).all()
    assert (prediction.low_ms == prediction.latency_ms).all()
    assert np.isnan(prediction.peak_bytes).all()
    assert raw.coverage.guaranteed == 0


@pytest.mark.parametrize("count", [24, 80])
def test_the_corrected_prediction_beats_the_bare_sum_on_networks_it_has_not_seen(
    bench: Any, raw: NetworkPredictor, count: int
) -> None:
    predictor = fitted(bench, raw, count)
    held_out = bench.candidates(raw.scalable, 60, seed=21)
    report = evaluate(
        predictor,
        held_out,
        bench.true_network_ms(raw.scalable, held_out, 0.01, seed=22),
        peaks(raw.scalable, held_out, 23),
        noise_floor=0.01,
    )
    assert report.latency.median < 0.015
    assert report.latency.p90 < 0.75 * report.sum_of_layers.p90
    assert report.latency.within_10 >= 0.95
    assert report.memory is not None
    assert report.memory.within_5 == 1
    assert report.covered >= 0.6  # of one campaign; over many see below
    assert predictor.coverage.method == "jackknife+"
    assert "noise floor (two measurements of one network): 1.0%" in report.lines()
    json.dumps(report.to_dict(), allow_nan=False)


def test_intervals_cover_close_to_the_nominal_share_over_many_campaigns(bench: Any, raw: NetworkPredictor) -> None:
    held_out = bench.candidates(raw.scalable, 100, seed=31)
    truth = bench.true_network_ms(raw.scalable, held_out)
    covered = []
    for seed in range(12):
        widths = bench.candidates(raw.scalable, 24, seed=100 + seed)
        predictor = raw.fit(widths, bench.true_network_ms(raw.scalable, widths, 0.03, seed=200 + seed))
        prediction = predictor.predict(held_out)
        measured = truth * np.exp(0.03 * np.random.default_rng(seed).standard_normal(100))
        covered.append(((prediction.low_ms <= measured) & (measured <= prediction.high_ms)).mean())
    assert 0.85 <= float(np.mean(covered)) <= 0.97


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 24, 70])
def test_a_loaded_predictor_predicts_the_same_bits(
    bench: Any, raw: NetworkPredictor, tmp_path: Path, count: int
) -> None:
    predictor = fitted(bench, raw, count) if count else raw
    path = tmp_path / "predictor.json"
    predictor.save(path)
    again = NetworkPredictor.load(path, raw.scalable)
    widths = bench.candidates(raw.scalable, 200, seed=5)
    before, after = predictor.predict(widths), again.predict(widths)
    for name in ("latency_ms", "low_ms", "high_ms", "peak_bytes", "sum_of_layers_ms", "interpolated_share"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    assert again.coverage == predictor.coverage
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_one_network_gives_no_interval_and_says_so(bench: Any, raw: NetworkPredictor) -> None:
    assert "not calibrated" in str(fitted(bench, raw, 1).coverage)
    few = fitted(bench, raw, 5)
    assert few.coverage.widest
    assert few.coverage.guaranteed < 0.8


def test_networks_without_a_measured_peak_are_left_out_of_the_memory_model(bench: Any, raw: NetworkPredictor) -> None:
    widths = bench.candidates(raw.scalable, 12)
    measured = peaks(raw.scalable, widths, 0)
    measured[:5] = [np.nan, 0, np.nan, 0, 0]
    predictor = raw.fit(widths, bench.true_network_ms(raw.scalable, widths), measured)
    assert predictor.memory.networks == 7


def test_layers_never_measured_are_named_and_refused_only_when_strict(bench: Any, small: ScalableNetwork) -> None:
    rows = [row for row in bench.grid_rows(small, (0.25, 1.0)) if not row.key.startswith("linear")]
    predictor = NetworkPredictor(small, LatencyTable(rows))
    assert predictor.predict([small.base_widths]).roofline == ("fc",)
    with pytest.raises(UserError, match="no measurement for the layers fc: measure them first"):
        predictor.predict([small.base_widths], strict=True)


def test_networks_that_were_chosen_teach_but_do_not_calibrate(bench: Any, raw: NetworkPredictor) -> None:
    widths = bench.candidates(raw.scalable, 24, seed=11)
    latencies = bench.true_network_ms(raw.scalable, widths, 0.01, seed=12)
    drawn = [index < 16 for index in range(24)]
    predictor = raw.fit(widths, latencies, calibrating=drawn)
    assert predictor.coverage.calibration == 16
    assert predictor.correction.networks == 24


@pytest.mark.parametrize("pace", [0.93, 1.07])
def test_networks_of_a_later_session_tell_its_pace(bench: Any, raw: NetworkPredictor, pace: float) -> None:
    widths = bench.candidates(raw.scalable, 36, seed=11)
    latencies = bench.true_network_ms(raw.scalable, widths, 0.01, seed=12)
    later = [index >= 24 for index in range(36)]
    latencies[later] *= pace
    held_out = bench.candidates(raw.scalable, 60, seed=21)
    now = pace * bench.true_network_ms(raw.scalable, held_out, 0.01, seed=22)
    mixed = raw.fit(widths, latencies).predict(held_out)
    predictor = raw.fit(widths, latencies, later=later)
    assert predictor.coverage.calibration == 12  # the later ones are enough for it
    told = predictor.predict(held_out)
    bias = [abs(np.median(one.latency_ms / now) - 1) for one in (told, mixed)]
    assert bias[0] < 0.015 < bias[1]
    assert ((told.low_ms <= now) & (now <= told.high_ms)).mean() >= 0.6  # of one campaign
    assert np.median(told.high_ms - told.low_ms) < np.median(mixed.high_ms - mixed.low_ms)


def test_two_later_networks_tell_no_pace(bench: Any, raw: NetworkPredictor) -> None:
    widths = bench.candidates(raw.scalable, 26, seed=11)
    latencies = bench.true_network_ms(raw.scalable, widths, 0.01, seed=12)
    latencies[24:] *= 1.5
    later = [index >= 24 for index in range(26)]
    one, other = raw.fit(widths, latencies, later=later), raw.fit(widths, latencies)
    assert one.coverage.calibration == 26
    assert (one.predict(widths).latency_ms == other.predict(widths).latency_ms).all()


def test_an_explanation_adds_up(bench: Any, raw: NetworkPredictor) -> None:
    predictor = fitted(bench, raw, 24)
    widths = bench.candidates(raw.scalable, 1, seed=40)[0].tolist()
    found = explain(predictor, widths)
    prediction = predictor.predict([widths])
    assert found.latency_ms == prediction.latency_ms[0]
    assert sum(layer.latency_ms for layer in found.layers) == pytest.approx(found.sum_of_layers_ms)
    assert found.sum_of_layers_ms + sum(found.terms_ms.values()) == pytest.approx(found.latency_ms)
    assert [layer.name for layer in found.layers] == [node.name for node in raw.scalable.network.nodes]
    assert {layer.kind for layer in found.layers} <= {"exact", "interpolated", "extrapolated"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_extrapolated_layers_widen_the_interval(bench: Any, small: ScalableNetwork) -> None:
    table = LatencyTable(bench.grid_rows(small, (0.5, 1.0)), grain=bench.GRAIN)
    widths = np.maximum(bench.candidates(small, 30, seed=1), small.base_widths // 2)
    predictor = NetworkPredictor(small, table).fit(widths, bench.true_network_ms(small, widths, 0.01))
    prediction = predictor.predict([small.base_widths, small.base_widths // 8])
    spans = (prediction.high_ms - prediction.low_ms) / prediction.latency_ms
    assert spans[1] > 1.5 * spans[0]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_none_cannot_be_fitted(bench: Any, raw: NetworkPredictor, bad: float) -> None:
    with pytest.raises(UserError, match="positive, finite latencies"):
        raw.fit(bench.candidates(raw.scalable, 2), [1.0, bad])


def test_a_predictor_without_any_layer_cannot_be_fitted(bench: Any, small: ScalableNetwork) -> None:
    with pytest.raises(UserError, match="build the latency table first"):
        NetworkPredictor(small, LatencyTable()).fit(bench.candidates(small, 4), [1.0, 2.0, 3.0, 4.0])


def test_a_file_that_is_no_predictor_or_another_networks_is_refused(
    bench: Any, raw: NetworkPredictor, tmp_path: Path
) -> None:
    path = tmp_path / "predictor.json"
    with pytest.raises(DataError, match="there is no predictor"):
        NetworkPredictor.load(path, raw.scalable)
    raw.save(path)
    whole = path.read_text()
    with pytest.raises(DataError, match="of another network"):
        NetworkPredictor.load(path, bench.resnet(2))
    for content, text in [
        (whole[:200], "is not a predictor"),
        ("[]", "is not a predictor"),
        (whole.replace('"format": 4', '"format": 5'), "format 5, this hwloop reads up to 4"),
        (whole.replace('"format": 4', '"format": 3'), "old format 3, this hwloop reads 4; fit it again"),
        (whole.replace('"residuals"', '"leftovers"'), "is damaged"),
    ]:
        path.write_text(content)
        with pytest.raises(DataError, match=text) as caught:
            NetworkPredictor.load(path, raw.scalable)
        assert "\n" not in str(caught.value)


def test_an_evaluation_needs_networks(raw: NetworkPredictor) -> None:
    with pytest.raises(UserError, match="at least one network"):
        evaluate(raw, np.zeros((0, len(raw.scalable.base_widths))), [])
