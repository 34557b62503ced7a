"""The vectorised sum is the sum of the modelled layers, and says what it does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwloop.layers import Block, Layer, Network, Node, ScalableNetwork
from hwloop.predictors import LayerModel, LayerSum, NetworkPredictor
from hwloop.predictors.layer_features import traffic_of
from hwloop.predictors.layer_model import KINDS, ROOFLINE
from hwloop.tables import LatencyTable, width_pair


@pytest.fixture(scope="module")
def predictor(small: ScalableNetwork, small_table: LatencyTable) -> NetworkPredictor:
    return NetworkPredictor(small, small_table)


def one_by_one(model: LayerModel, layers: tuple[Layer, ...]) -> list[tuple[float, str]]:
    found = []
    for layer in layers:
        pair = width_pair(layer)
        values = model.at(layer, np.array([pair.inputs]), np.array([pair.outputs]))
        found.append((float(values.latency_ms[0]), KINDS[int(values.kind[0])]))
    return found


def test_it_agrees_with_looking_up_every_layer_of_every_candidate(
    bench: Any, small: ScalableNetwork, predictor: NetworkPredictor
) -> None:
    widths = bench.candidates(small, 20)
    sums = predictor.sums(widths)
    latency, _, kinds = predictor.layer_values(widths)
    for index, candidate in enumerate(widths):
        entries = one_by_one(predictor.layers, small.at([int(w) for w in candidate]).layers)
        total = sum(latency for latency, _ in entries)
        assert sums.total_ms[index] == pytest.approx(total, rel=1e-9)
        assert latency[index] == pytest.approx([one for one, _ in entries], rel=1e-9)
        guessed = sum(one for one, kind in entries if kind != "exact")
        assert sums.unmeasured_share[index] == pytest.approx(guessed / total, rel=1e-9)
        shown = [KINDS[kind] for kind, layer in zip(kinds[index], small.layers, strict=True) if layer.op != "flatten"]
        assert shown == [kind for (_, kind), layer in zip(entries, small.layers, strict=True) if layer.op != "flatten"]


def test_bytes_are_those_of_the_layers(bench: Any, small: ScalableNetwork, predictor: NetworkPredictor) -> None:
    widths = bench.candidates(small, 20, seed=3)
    parts, grain = predictor.sums(widths).terms.parts, predictor.layers.grain
    for index, candidate in enumerate(widths):
        layers = small.at([int(w) for w in candidate]).layers
        assert parts[index, 2] + parts[index, 3] == sum(layer.bytes_read + layer.bytes_written for layer in layers)
        found = []
        for layer in layers:
            pair = width_pair(layer)
            found.append(traffic_of(layer, np.array([pair.inputs]), np.array([pair.outputs]), grain))
        assert parts[index, 4] == sum(one.part_blocks[0] for one in found)
        assert parts[index, 5] == sum(one.plain_reads[0] for one in found)


def test_a_measured_network_is_summed_from_its_measurements(bench: Any, small: ScalableNetwork) -> None:
    table = LatencyTable([bench.row(layer) for layer in dict.fromkeys(small.network.layers)], grain=bench.GRAIN)
    sums = NetworkPredictor(small, table).sums([small.base_widths])
    assert sums.total_ms[0] == pytest.approx(sum(map(bench.true_layer_ms, small.network.layers)), rel=0.01)
    assert sums.unmeasured_share[0] == 0


def test_layers_of_a_geometry_that_was_never_measured_get_the_roofline(bench: Any, small: ScalableNetwork) -> None:
    rows = [r for r in bench.grid_rows(small, (0.25, 0.5, 1.0)) if not r.key.startswith(("global_avg_pool", "linear"))]
    predictor = NetworkPredictor(small, LatencyTable(rows))
    assert predictor.roofline == ("pool", "fc")
    assert predictor.missing == ()
    sums = predictor.sums([small.base_widths])
    assert 0 < sums.kind_ms[0, ROOFLINE] < 0.2 * sums.total_ms[0]


def test_without_any_measurement_everything_is_missing(small: ScalableNetwork) -> None:
    predictor = NetworkPredictor(small, LatencyTable())
    assert set(predictor.missing) == {node.name for node in small.nodes if node.layer.op != "flatten"}
    assert (predictor.sums([small.base_widths]).total_ms == 0).all()


def test_a_removed_block_takes_its_layers_along(bench: Any, small_table: LatencyTable, small: ScalableNetwork) -> None:
    names = [node.name for node in small.network.nodes]
    block = Block("s1.0", ("s1.0.a", "s1.0.b"), names.index("s1.0.b"), names.index("s1.first"))
    scalable = ScalableNetwork(small.network, small.groups, [block])
    predictor = NetworkPredictor(scalable, small_table)
    widths = np.tile(small.base_widths, (2, 1))
    sums = predictor.sums(widths, [[True], [False]])
    without = NetworkPredictor(small, small_table)
    whole = without.layer_values([small.base_widths])[0][0]
    lost = sum(whole[names.index(name)] for name in block.vanishing)
    assert sums.total_ms[0] == pytest.approx(without.sums([small.base_widths]).total_ms[0], rel=1e-12)
    assert sums.total_ms[0] - sums.total_ms[1] == pytest.approx(lost, rel=1e-9)
    assert sums.terms.parts[0, 1] - sums.terms.parts[1, 1] == 2
    fitted = predictor.fit(np.tile(small.base_widths, (6, 1)), 0.8 * np.resize(sums.total_ms, 6), blocks=[[1], [0]] * 3)
    prediction = fitted.predict(widths, [[True], [False]])
    assert prediction.latency_ms == pytest.approx(0.8 * sums.total_ms, rel=0.05)


def test_an_unsupported_layer_is_missing() -> None:
    odd = Layer.parse('unsupported 1x8>1x8 float32 detail="Einsum"')
    network = Network((Node("odd", odd, (-1,)),), ((1, 8),), (0,))
    predictor = NetworkPredictor(ScalableNetwork(network, []), LatencyTable())
    assert predictor.missing == ("odd",)
    assert (predictor.sums(np.zeros((2, 0), dtype=np.int64)).total_ms == 0).all()


@pytest.mark.parametrize("dense_cells", [0, 10**9])
def test_both_ways_to_find_distinct_pairs_agree(
    bench: Any, small: ScalableNetwork, predictor: NetworkPredictor, monkeypatch: pytest.MonkeyPatch, dense_cells: int
) -> None:
    widths = bench.candidates(small, 50)
    made = LayerSum(small, predictor.layers)
    expected = made.at(widths)
    monkeypatch.setattr("hwloop.predictors.layer_sum.DENSE_CELLS", dense_cells)
    found = made.at(widths)
    assert found.total_ms.tobytes() == expected.total_ms.tobytes()
    assert found.kind_ms.tobytes() == expected.kind_ms.tobytes()
