"""Measurements go where the predictor is unsure and the search is looking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwloop.layers import ScalableNetwork
from hwloop.predictors import LayerSum, NetworkPredictor, Pool, choose_layers, choose_networks, near_front
from hwloop.tables import LatencyTable, geometry, width_pair


@pytest.fixture(scope="module")
def sparse(bench: Any, small: ScalableNetwork) -> NetworkPredictor:
    return NetworkPredictor(small, LatencyTable(bench.grid_rows(small, (0.125, 1.0)), grain=bench.GRAIN))


def test_near_the_front_are_the_fast_ones_of_each_quality() -> None:
    latency = np.array([1.0, 2.0, 3.0, 1.5, 3.3, 9.0])
    quality = np.array([1.0, 2.0, 3.0, 1.0, 3.0, 1.0])
    assert near_front(latency, quality, 3).tolist() == [0, 1, 2]
    assert near_front(latency, quality, 6).tolist() == [0, 1, 2, 4, 3, 5]


def test_layers_are_chosen_among_those_of_the_pool_that_were_not_measured(
    bench: Any, small: ScalableNetwork, sparse: NetworkPredictor
) -> None:
    widths = bench.candidates(small, 30, step=8)
    chosen = choose_layers(sparse, Pool(widths), 12)
    possible = {layer.key for row in widths for layer in small.at([int(w) for w in row]).layers}
    measured = {(name, p.inputs, p.outputs) for name, points in sparse.costs.points.items() for p in points}
    assert len({layer.key for layer in chosen}) == 12
    assert all(layer.key in possible for layer in chosen)
    assert not any((geometry(layer), *width_pair(layer)) in measured for layer in chosen)
    again = choose_layers(sparse, Pool(widths), 12, {chosen[0].key})
    assert chosen[0].key not in {layer.key for layer in again}


def test_a_geometry_without_measurements_comes_first(bench: Any, small: ScalableNetwork) -> None:
    rows = [row for row in bench.grid_rows(small, (0.125, 1.0)) if not row.key.startswith("linear")]
    predictor = NetworkPredictor(small, LatencyTable(rows, grain=bench.GRAIN))
    chosen = choose_layers(predictor, Pool(bench.candidates(small, 10, step=8)), 3)
    assert chosen[0].op == "linear"


def test_chosen_layers_help_more_than_others(bench: Any, small: ScalableNetwork, sparse: NetworkPredictor) -> None:
    widths = bench.candidates(small, 60, step=8)
    chosen = {layer.key: layer for layer in choose_layers(sparse, Pool(widths), 15)}
    known = list(bench.grid_rows(small, (0.125, 1.0)))
    everything = {layer.key: layer for row in widths for layer in small.at([int(w) for w in row]).layers}
    others = [layer for key, layer in sorted(everything.items()) if key not in chosen and layer.op != "flatten"]
    drawn = [others[i] for i in np.random.default_rng(0).choice(len(others), 15, replace=False)]

    def doubt(added: list[Any]) -> float:
        rows = {row.key: row for row in [*known, *map(bench.row, added)]}
        made = NetworkPredictor(small, LatencyTable(rows.values(), grain=bench.GRAIN))
        made.layers = type(made.layers)(small.layers, made.costs, made.layers.roofline, sparse.layers.kernels)
        sums = LayerSum(small, made.layers).at(widths)
        return float(np.mean((sums.spread_ms / sums.total_ms) ** 2))

    assert doubt(list(chosen.values())) < doubt(drawn)


def test_networks_are_chosen_unlike_the_measured_ones_and_each_other(
    bench: Any, small: ScalableNetwork, small_table: LatencyTable
) -> None:
    raw = NetworkPredictor(small, small_table)
    widths = bench.candidates(small, 20, seed=4)
    fitted = raw.fit(widths[:8], bench.true_network_ms(small, widths[:8], 0.01))
    pool = np.concatenate([widths[8:], [small.base_widths // 8], [small.base_widths // 8]])
    chosen = choose_networks(fitted, Pool(pool), 3)
    assert len(set(chosen)) == 3
    known = np.zeros(len(pool), bool)
    known[chosen[0]] = True
    assert chosen[0] not in choose_networks(fitted, Pool(pool), 3, known)
    assert choose_networks(raw, Pool(pool), 3) == []
