"""Predicting 1,000 candidates of ResNet-56: latency with interval, memory, sizes."""

from __future__ import annotations

import numpy as np

from hwloop.extraction import network_from_torch
from hwloop.layers import Layer, ScalableNetwork
from hwloop.measurement import layer_design
from hwloop.models import build_model
from hwloop.predictors import NetworkPredictor
from hwloop.pruning import pruning_space
from hwloop.tables import Context, LatencyTable, Row
from tests.benchmarks.timing import milliseconds, spread

CANDIDATES = 1000


def main() -> None:
    """Print the time per 1,000 candidates. The table's values do not matter for it: they come from the MACs."""
    module = build_model("resnet56", num_classes=10, in_channels=3, arguments={"shortcut": "projection"})
    space = pruning_space(module, (3, 32, 32), grain=1).without_blocks()
    scalable = ScalableNetwork(network_from_torch(module, (3, 32, 32)), [g.roots for g in space.groups])
    context = Context("benchmark", "none", "none", "0", 1)
    layers = layer_design(scalable, [space.levels(g) for g in range(len(space.groups))], 3)
    table = LatencyTable([_row(layer, context) for layer in layers], grain=8)
    rng = np.random.default_rng(0)
    widths = np.array([space.random(rng).widths for _ in range(CANDIDATES)])
    some = widths[:40]
    sums = NetworkPredictor(scalable, table).predict(some).sum_of_layers_ms
    predictor = NetworkPredictor(scalable, table).fit(some, 0.8 * sums, 1e7 + 1e3 * sums)
    print(f"{len(layers)} table rows, {len(space.groups)} groups, {CANDIDATES} candidates")
    print("prediction:", spread(milliseconds(lambda: predictor.predict(widths), 15)))


def _row(layer: Layer, context: Context) -> Row:
    latency = 0.004 + layer.macs * 5e-8
    return Row(layer.key, latency, 0.99 * latency, 1.01 * latency, (latency,), 1000, 100, "ok", (), context)
