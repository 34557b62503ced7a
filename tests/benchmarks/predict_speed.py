"""Fitting a predictor, and predicting 10,000 candidates: latency with interval, and peak memory; on one core."""

from __future__ import annotations

import time

import numpy as np
import torch

from hwloop.extraction import ONNXRUNTIME_X86
from hwloop.layers import Layer
from hwloop.measurement import layer_design
from hwloop.models import build_model, model_defaults
from hwloop.predictors import NetworkPredictor
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import open_space
from hwloop.tables import Context, LatencyTable, Row
from tests.benchmarks.timing import milliseconds, spread

CANDIDATES = 10_000
NETWORKS = 30
SPACES = ("resnet20", "resnet56", "vgg16_bn", "mobilenet_v2")


def main() -> None:
    """Print both times for each space. The values do not matter for them: they come from the MACs."""
    torch.set_num_threads(1)
    for name in SPACES:
        shape = model_defaults(name).input_shape
        module = build_model(name, num_classes=10, in_channels=3, image_size=shape[-1]).eval()
        moves = open_space(module, shape, ONNXRUNTIME_X86, grain=8)
        space, scalable = moves.space, moves.scalable
        context = Context("benchmark", "none", "none", "0", 1)
        layers = layer_design(scalable, [space.levels(g) for g in range(len(space.groups))], 5)[:400]
        table = LatencyTable([_row(layer, context) for layer in layers], grain=8)
        rng = np.random.default_rng(0)
        asked = space.arrays([space.random(rng) for _ in range(CANDIDATES)])
        widths, remains = space.arrays(sample_candidates(space, NETWORKS, 0))
        began = time.perf_counter()
        raw = NetworkPredictor(scalable, table)
        sums = raw.predict(widths, remains).sum_of_layers_ms
        noise = np.exp(0.02 * rng.standard_normal(len(widths)))
        predictor = raw.fit(widths, (0.8 * sums + 0.05) * noise, 1e7 + 1e3 * sums, blocks=remains)
        fitting = time.perf_counter() - began
        size = f"{len(layers)} layers, {len(space.groups)} widths, {len(space.blocks)} blocks"
        print(f"{name}: {size}; fitted in {fitting:.1f} s")
        times = milliseconds(lambda fitted=predictor, asked=asked: fitted.predict(*asked), 7)  # type: ignore[misc]
        print(f"  {CANDIDATES} candidates: {spread(times)}")


def _row(layer: Layer, context: Context) -> Row:
    latency = 0.004 + layer.macs * 5e-8 + (layer.bytes_read + layer.bytes_written) * 1e-7
    return Row(layer.key, latency, 0.99 * latency, 1.01 * latency, (latency,), 1000, 100, "ok", (), context)
