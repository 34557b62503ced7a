"""The vectorised sum is the sum of the looked-up layers, and says what it does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwloop.layers import Layer, Network, Node, ScalableNetwork
from hwloop.predictors import LayerSum
from hwloop.tables import LatencyTable


def test_it_agrees_with_looking_up_every_layer_of_every_candidate(
    bench: Any, small: ScalableNetwork, small_table: LatencyTable
) -> None:
    widths = bench.candidates(small, 40)
    sums = LayerSum(small, small_table.costs(small.network.layers)).at(widths)
    for index, candidate in enumerate(widths):
        entries = [small_table.lookup(layer) for layer in small.at([int(w) for w in candidate]).layers]
        total = sum(entry.latency_ms for entry in entries)
        guessed = sum(entry.latency_ms for entry in entries if entry.kind != "exact")
        assert sums.total_ms[index] == pytest.approx(total, rel=1e-12)
        assert sums.interpolated_share[index] == pytest.approx(guessed / total, rel=1e-9)
    assert sums.missing == ()


def test_bytes_moved_are_those_of_the_layers(bench: Any, small: ScalableNetwork, small_table: LatencyTable) -> None:
    widths = bench.candidates(small, 20, seed=3)
    moved = LayerSum(small, small_table.costs(small.network.layers)).at(widths).bytes_moved
    for index, candidate in enumerate(widths):
        layers = small.at([int(w) for w in candidate]).layers
        views = sum(layer.weight_bytes for layer in layers if layer.op == "flatten")
        assert moved[index] == sum(layer.bytes_read + layer.bytes_written for layer in layers) + views


def test_a_measured_network_is_summed_from_its_measurements(bench: Any, small: ScalableNetwork) -> None:
    table = LatencyTable([bench.row(layer) for layer in dict.fromkeys(small.network.layers)], grain=bench.GRAIN)
    sums = LayerSum(small, table.costs(small.network.layers)).at([small.base_widths])
    assert sums.total_ms[0] == pytest.approx(sum(map(bench.true_layer_ms, small.network.layers)), rel=1e-12)
    assert sums.interpolated_share[0] == 0


def test_layers_that_were_never_measured_are_named(bench: Any, small: ScalableNetwork) -> None:
    rows = [r for r in bench.grid_rows(small, (0.25, 1.0)) if not r.key.startswith(("global_avg_pool", "linear"))]
    sums = LayerSum(small, LatencyTable(rows).costs(small.network.layers)).at([small.base_widths])
    assert sums.missing == ("pool", "fc")
    assert np.isfinite(sums.total_ms).all()


def test_an_unmeasured_view_counts_nothing_and_is_not_missing(bench: Any, small: ScalableNetwork) -> None:
    rows = [r for r in bench.grid_rows(small, (0.25, 1.0)) if not r.key.startswith("flatten")]
    assert LayerSum(small, LatencyTable(rows).costs(small.network.layers)).missing == ()


def test_layers_beyond_the_measured_widths_widen_the_sum(bench: Any, small: ScalableNetwork) -> None:
    table = LatencyTable(bench.grid_rows(small, (0.5, 1.0)), grain=bench.GRAIN)
    sums = LayerSum(small, table.costs(small.network.layers)).at([small.base_widths, small.base_widths // 8])
    assert sums.extrapolated_low_ms[0] == sums.extrapolated_high_ms[0] == 0
    assert sums.extrapolated_low_ms[1] > 0
    thin = small.at([int(w) for w in small.base_widths // 8]).layers
    truth = sum(bench.true_layer_ms(layer) for layer in thin)
    assert sums.total_ms[1] - sums.extrapolated_low_ms[1] <= truth <= sums.total_ms[1]


def test_an_unsupported_layer_is_missing() -> None:
    odd = Layer.parse('unsupported 1x8>1x8 float32 detail="Einsum"')
    network = Network((Node("odd", odd, (-1,)),), ((1, 8),), (0,))
    scalable = ScalableNetwork(network, [])
    sums = LayerSum(scalable, LatencyTable().costs(network.layers)).at(np.zeros((2, 0), dtype=np.int64))
    assert sums.missing == ("odd",)
    assert (sums.total_ms == 0).all()


@pytest.mark.parametrize("dense_cells", [0, 10**9])
def test_both_ways_to_find_distinct_pairs_agree(
    bench: Any, small: ScalableNetwork, small_table: LatencyTable, monkeypatch: pytest.MonkeyPatch, dense_cells: int
) -> None:
    widths = bench.candidates(small, 50)
    made = LayerSum(small, small_table.costs(small.network.layers))
    expected = made.at(widths)
    monkeypatch.setattr("hwloop.predictors.layer_sum.DENSE_CELLS", dense_cells)
    found = made.at(widths)
    assert found.total_ms.tobytes() == expected.total_ms.tobytes()
    assert found.interpolated_share.tobytes() == expected.interpolated_share.tobytes()
