"""A layer's latency over its widths: right between the measured ones, honest about how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwloop.layers import ScalableNetwork
from hwloop.predictors import LayerModel, Roofline, fit_roofline
from hwloop.predictors.layer_features import work_of
from hwloop.predictors.layer_model import EXACT, EXTRAPOLATED, INTERPOLATED
from hwloop.tables import LatencyTable, width_pair


@pytest.fixture(scope="module")
def layer(bench: Any) -> Any:
    return bench.conv(64, 64, 8)


@pytest.fixture(scope="module")
def model(bench: Any, layer: Any) -> LayerModel:
    """Of a fifth of the widths in steps of 4; the device works in blocks of 8."""
    rng = np.random.default_rng(0)
    pairs = {(16, 16), (64, 64), (16, 64), (64, 16)}
    pairs |= {tuple(int(w) for w in 4 * rng.integers(4, 17, 2)) for _ in range(30)}
    rows = [bench.row(layer.resized((a,), b), 0.005) for a, b in sorted(pairs)]
    return LayerModel([layer], LatencyTable(rows, grain=1).costs([layer]), Roofline({}))


def everywhere() -> tuple[np.ndarray, np.ndarray]:
    ins, outs = np.meshgrid(np.arange(16, 65, 4), np.arange(16, 65, 4))
    return ins.ravel(), outs.ravel()


def test_it_finds_the_blocks_of_the_kernels_and_the_layers_between(bench: Any, layer: Any, model: LayerModel) -> None:
    ins, outs = everywhere()
    values = model.at(layer, ins, outs)
    truth = [bench.true_layer_ms(layer.resized((int(a),), int(b))) for a, b in zip(ins, outs, strict=True)]
    errors = np.abs(values.latency_ms / np.array(truth) - 1)
    assert model.grain == bench.GRAIN
    assert np.quantile(errors, 0.95) < 0.03


def test_its_spread_is_about_as_large_as_its_errors(bench: Any, layer: Any, model: LayerModel) -> None:
    ins, outs = everywhere()
    values = model.at(layer, ins, outs)
    truth = [bench.true_layer_ms(layer.resized((int(a),), int(b))) for a, b in zip(ins, outs, strict=True)]
    wide = np.log(values.latency_ms / np.array(truth)) / np.hypot(values.spread, 0.005)
    assert np.quantile(np.abs(wide), 0.9) < 2.5


def test_it_says_where_a_number_comes_from(layer: Any, model: LayerModel) -> None:
    kinds = model.at(layer, np.array([64, 33, 128]), np.array([64, 47, 64])).kind
    assert kinds.tolist() == [EXACT, INTERPOLATED, EXTRAPOLATED]


def test_measuring_a_layer_takes_the_doubt_from_it_and_its_neighbours(model: LayerModel, layer: Any) -> None:
    one = next(iter(model.geometries.values()))
    at = (np.array([64, 20, 160]), np.array([64, 20, 160]))
    covariance = one.covariance(at, at)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(one.at(*at).spread, rel=1e-6)
    assert covariance[2, 2] > 2 * covariance[0, 0]


def test_the_roofline_of_a_device_is_found(bench: Any) -> None:
    rows = [bench.conv(a, b, size) for a in (8, 32, 128) for b in (16, 64, 256) for size in (4, 16, 32)]
    roofline = fit_roofline(rows, [bench.true_layer_ms(one) for one in rows], bench.GRAIN)
    other = bench.conv(96, 192, 12)
    found = roofline.at(other, np.array([96]), np.array([192]))
    assert found is not None
    assert found[0][0] == pytest.approx(bench.true_layer_ms(other), rel=0.3)
    again = Roofline.from_dict(roofline.to_dict())
    assert again == roofline


def test_work_is_that_of_the_layers(bench: Any, small: ScalableNetwork) -> None:
    for layer in small.layers:
        pair = width_pair(layer)
        work = work_of(layer, np.array([pair.inputs]), np.array([pair.outputs]), 1)
        if layer.op != "flatten":
            assert work.macs[0] == layer.macs
            assert work.bytes[0] == layer.bytes_read + layer.bytes_written
