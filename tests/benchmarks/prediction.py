"""Predicting 1,000 candidates of ResNet-56, widths and blocks: latency with interval, memory, sizes."""

from __future__ import annotations

import numpy as np

from hwloop.extraction import ONNXRUNTIME_X86
from hwloop.layers import Layer
from hwloop.measurement import layer_design
from hwloop.models import build_model
from hwloop.predictors import NetworkPredictor
from hwloop.study.space import open_space
from hwloop.tables import Context, LatencyTable, Row
from tests.benchmarks.timing import milliseconds, spread

CANDIDATES = 1000


def main() -> None:
    """Print the time per 1,000 candidates. The table's values do not matter for it: they come from the MACs."""
    module = build_model("resnet56", num_classes=10, in_channels=3, arguments={"shortcut": "projection"})
    moves = open_space(module.eval(), (3, 32, 32), ONNXRUNTIME_X86, grain=1)
    space, scalable = moves.space, moves.scalable
    context = Context("benchmark", "none", "none", "0", 1)
    layers = layer_design(scalable, [space.levels(g) for g in range(len(space.groups))], 3)
    table = LatencyTable([_row(layer, context) for layer in layers], grain=8)
    rng = np.random.default_rng(0)
    widths, remains = space.arrays([space.random(rng) for _ in range(CANDIDATES)])
    raw = NetworkPredictor(scalable, table)
    sums = raw.predict(widths[:40], remains[:40]).sum_of_layers_ms
    predictor = raw.fit(widths[:40], 0.8 * sums, 1e7 + 1e3 * sums, blocks=remains[:40])
    print(f"{len(layers)} rows, {len(space.groups)} groups, {len(space.blocks)} blocks, {CANDIDATES} candidates")
    print("prediction:", spread(milliseconds(lambda: predictor.predict(widths, remains), 15)))


def _row(layer: Layer, context: Context) -> Row:
    latency = 0.004 + layer.macs * 5e-8
    return Row(layer.key, latency, 0.99 * latency, 1.01 * latency, (latency,), 1000, 100, "ok", (), context)
