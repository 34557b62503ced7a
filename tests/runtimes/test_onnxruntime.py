"""What is particular to onnxruntime: fusion, reading back, whole networks. See test_conformance.py for the rest."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hwloop.errors import ModelError
from hwloop.extraction import network_from_onnx, network_from_torch
from hwloop.layers import Layer
from hwloop.runtimes import Artifact, OnnxRuntime
from tests.runtimes.layers import LAYERS
from tests.runtimes.running import draw, session_of

RUNTIME = OnnxRuntime()


@pytest.mark.parametrize("key", [key for key in LAYERS if " d2x2 relu" not in key])
def test_the_model_of_a_layer_is_read_back_as_that_layer(key):
    """What is measured is what was asked for: extraction finds the same layer in the micro-model."""
    layer = Layer.parse(key)
    read = network_from_onnx(RUNTIME.layer(layer).data)
    assert not read.unsupported
    assert read.macs == layer.macs
    assert read.parameters == layer.parameters
    main = [one for one in read.layers if one.op == layer.op]
    assert any(one.input_shapes == layer.input_shapes and one.detail == layer.detail for one in main)
    assert read.layers[-1].output_shape == layer.output_shape


def executed(artifact: Artifact, folder: Path) -> list[str]:
    path = folder / "optimised.onnx"
    session_of(artifact, path)
    return [node.op_type for node in onnx.load(path).graph.node if not node.op_type.startswith("Reorder")]


@pytest.mark.parametrize("width", [16, 18, 64])
def test_onnxruntime_fuses_bias_and_activation_into_the_convolution(width, tmp_path):
    key = f"conv 1x{width}x8x8>1x{width}x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32"
    assert executed(RUNTIME.layer(Layer.parse(key)), tmp_path) in (["Conv"], ["FusedConv"])


@pytest.mark.parametrize("width", [16, 18, 64])
def test_onnxruntime_fuses_the_residual_into_the_convolution(width, tmp_path):
    key = f"conv 1x{width}x8x8>1x{width}x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu +add float32"
    names = executed(RUNTIME.layer(Layer.parse(key)), tmp_path)
    assert not {"Add", "Relu"} & set(names)
    assert sum("Conv" in name for name in names) == 1


def test_onnxruntime_fuses_matrix_products_and_spelled_out_activations(tmp_path):
    def names(key):
        return executed(RUNTIME.layer(Layer.parse(key)), tmp_path)

    assert names("linear 1x400>1x120 bias relu float32") == ["FusedGemm"]
    assert names("linear 1x400>1x120 relu +add float32") == ["FusedGemm"]
    assert names("silu 1x16x8x8>1x16x8x8 float32") == ["QuickGelu"]
    assert names("gelu 1x16x8x8>1x16x8x8 float32") == ["Gelu"]


def test_values_keep_unit_scale_through_a_convolution():
    layer = Layer.parse("conv 1x64x16x16>1x64x16x16 k3x3 s1x1 p0,0,2,2 d1x1 g1 float32")
    artifact = RUNTIME.layer(layer)
    (output,) = session_of(artifact).run(None, draw(artifact))
    assert 0.5 < output.std() < 3
    assert abs(output.mean()) < 0.3


def test_rows_of_large_weights_differ():
    layer = Layer.parse("linear 1x4096>1x512 float32")
    (weight,) = onnx.load_model_from_string(RUNTIME.layer(layer).data).graph.initializer
    values = onnx.numpy_helper.to_array(weight)
    assert len(np.unique(values[:, :4], axis=0)) == len(values)
    assert math.isclose(values.std(), math.sqrt(2 / 4096), rel_tol=0.05)


def test_a_dilated_average_pool_is_refused():
    with pytest.raises(ModelError, match="dilated"):
        RUNTIME.layer(Layer.parse("avg_pool 1x16x9x9>1x16x5x5 k3x3 s1x1 p0,0,0,0 d2x2 float32"))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def test_a_module_becomes_a_model_of_batch_one():
    torch.manual_seed(0)
    module = Small().eval()
    artifact = RUNTIME.module(module, (3, 8, 8))
    assert artifact.options == {"free_dimensions": {"batch": 1}}
    assert artifact.label == "Small"
    feed = draw(artifact)
    (output,) = session_of(artifact).run(None, feed)
    with torch.no_grad():
        np.testing.assert_allclose(output, module(torch.from_numpy(feed["input"])).numpy(), atol=1e-5)
    assert network_from_onnx(artifact.data).layers == network_from_torch(module, (3, 8, 8)).layers


def test_an_onnx_file_is_measured_as_it_is():
    data = RUNTIME.module(Small(), (3, 8, 8)).data
    artifact = RUNTIME.onnx(data, "small.onnx")
    assert artifact.data is data
    assert artifact.options == {"free_dimensions": {"batch": 1}}
    assert [(one.name, one.shape, one.distribution) for one in artifact.inputs] == [("input", (1, 3, 8, 8), "normal")]
    assert session_of(artifact).run(None, draw(artifact))[0].shape == (1, 4)


def onnx_with_input(kind, shape):
    value = onnx.helper.make_tensor_value_info("x", kind, shape)
    output = onnx.helper.make_empty_tensor_value_info("y")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [output])
    return onnx.helper.make_model(graph).SerializeToString()


def test_integer_inputs_are_fed_integers_and_fixed_batches_need_no_option():
    artifact = RUNTIME.onnx(onnx_with_input(onnx.TensorProto.INT64, (2, 7)), "tokens")
    assert [(one.dtype, one.distribution, one.shape) for one in artifact.inputs] == [("int64", "integers", (2, 7))]
    assert artifact.options == {}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"nonsense", "mine.onnx is not an ONNX model"),
        (onnx_with_input(onnx.TensorProto.FLOAT, ("batch", "height")), "'height' at axis 1"),
        (onnx_with_input(onnx.TensorProto.FLOAT, None), "no known rank"),
    ],
)
def test_an_onnx_file_that_cannot_be_fed_is_refused(model, reason):
    with pytest.raises(ModelError, match=reason):
        RUNTIME.onnx(model, "mine.onnx")
