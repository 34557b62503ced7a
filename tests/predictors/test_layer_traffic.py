"""Where the sum of layers that ran alone counts reorders that a network does not do, and where it misses some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from torch import nn

from hwloop.extraction import ONNXRUNTIME_X86, export_onnx, network_from_torch
from hwloop.layers import Layer, ScalableNetwork
from hwloop.predictors.layer_features import LayerTraffic, traffic_of
from hwloop.tables import width_pair

SHAPE = (3, 16, 16)


def traffic(layer: Layer, grain: int) -> LayerTraffic:
    pair = width_pair(layer)
    return traffic_of(layer, np.array([pair.inputs]), np.array([pair.outputs]), grain)


def chain(width: int) -> nn.Module:
    """A stem, a dense, a depthwise and a strided pointwise convolution, and a pool: tensors with one reader each."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.Conv2d(width, width, 1, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    ).eval()


def optimised(module: nn.Module, folder: Path) -> onnx.GraphProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    options.add_free_dimension_override_by_name("batch", 1)
    model = export_onnx(module, SHAPE, fold=True)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx").graph


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Channels per block here, as onnxruntime pads the stem's four filters."""
    graph = optimised(chain(4), tmp_path_factory.mktemp("block"))
    stem = next(node for node in graph.node if node.op_type == "Conv")
    if stem.domain != "com.microsoft.nchwc":
        pytest.skip("onnxruntime has no blocked layout on this machine")
    return next(int(one.dims[0]) for one in graph.initializer if one.name == stem.input[1])


@pytest.mark.parametrize("halves", [1, 2, 3, 4, 5])
def test_plain_reads_are_what_onnxruntime_reorders_for(halves: int, block: int, tmp_path: Path) -> None:
    module = chain(halves * block // 2)
    graph = optimised(module, tmp_path)
    reordered = {node.output[0] for node in graph.node if node.op_type == "ReorderOutput"}
    kernels = [node for node in graph.node if node.op_type in ("Conv", "GlobalAveragePool")]
    layers = [
        one for one in network_from_torch(module, SHAPE, rules=ONNXRUNTIME_X86).layers if len(one.output_shape) == 4
    ]
    assert len(kernels) == len(layers)
    # What the stem reads is plain already.
    for node, layer in list(zip(kernels, layers, strict=True))[1:]:
        assert (node.input[0] in reordered) == (traffic(layer, block).plain_reads[0] > 0), layer.key


def test_traffic_is_that_of_the_layers(small: ScalableNetwork) -> None:
    for layer in small.layers:
        if layer.op == "flatten":
            assert traffic(layer, 8).activations[0] == 0
            continue
        moved = layer.bytes_read + layer.bytes_written
        assert traffic(layer, 8).activations[0] == moved - 4 * layer.parameters


def test_a_last_block_that_is_not_full_counts_whole(small: ScalableNetwork) -> None:
    layer = next(one for one in small.layers if one.residual)
    widths = np.array([8, 12, 16])
    found = traffic_of(layer, widths, widths, 8)
    assert found.part_blocks.tolist() == [0, 2 * 4 * 12 * 32 * 32, 0]
    assert traffic_of(layer, widths, widths, 1).part_blocks.tolist() == [0, 0, 0]
