"""Every layer that hwloop knows runs in the installed onnxruntime, fused, with values in a sane range."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwloop.errors import ModelError
from hwloop.extraction import network_from_onnx, network_from_torch
from hwloop.layers import ACTIVATIONS, OPS, Layer
from hwloop.runtimes import Artifact, OnnxRuntime

RUNTIME = OnnxRuntime()

LAYERS = [
    "conv 1x3x16x16>1x16x16x16 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
    "conv 1x16x16x16>1x32x8x8 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32",
    "conv 1x13x9x7>1x11x9x7 k3x3 s1x1 p1,1,1,1 d1x1 g1 relu +add float32",
    "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g16 bias relu6 float32",
    "conv 1x16x8x8>1x32x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g4 bias float32",
    "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p2,2,2,2 d2x2 g1 float32",
    "conv 1x64x1x1>1x4x1x1 k1x1 s1x1 p0,0,0,0 d1x1 g1 relu float32",
    "conv 1x1x1x1>1x1x1x1 k1x1 s1x1 p0,0,0,0 d1x1 g1 relu float32",
    "conv 1x512x4x4>1x512x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
    "linear 1x400>1x120 bias relu float32",
    "linear 1x400>1x120 float32",
    "linear 1x400>1x120 relu +add float32",
    "linear 1x400>1x120 bias relu +add float32",
    "linear 1x7x32>1x7x16 bias float32",
    "linear 1x4096>1x1 relu float32",
    "matmul 1x4x7x16,1x4x16x7>1x4x7x7 float32",
    "max_pool 1x16x9x9>1x16x4x4 k3x3 s2x2 p0,0,0,0 d1x1 float32",
    "max_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p0,0,0,0 d1x1 float32",
    "max_pool 1x16x9x9>1x16x5x5 k3x3 s1x1 p0,0,0,0 d2x2 relu float32",
    "avg_pool 1x16x8x8>1x16x1x1 k8x8 s8x8 p0,0,0,0 d1x1 float32",
    "avg_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,0,0 d1x1 float32",
    "global_avg_pool 1x16x8x8>1x16x1x1 float32",
    'global_avg_pool 1x16x8x8>1x16 float32 detail="reduce"',
    'global_avg_pool 1x16x8x8>1x16x1x1 float32 detail="reduce"',
    "global_max_pool 1x16x8x8>1x16x1x1 float32",
    "add 1x16x8x8,1x16x8x8>1x16x8x8 relu float32",
    'add 1x16x8x8>1x16x8x8 float32 detail="const=channel"',
    "sub 1x16x8x8,1x16x8x8>1x16x8x8 float32",
    'sub 1x16x8x8>1x16x8x8 float32 detail="const=full"',
    "mul 1x16x8x8,1x16x1x1>1x16x8x8 float32",
    'mul 1x16x8x8>1x16x8x8 float32 detail="const=scalar"',
    "div 1x16x8x8,1x16x8x8>1x16x8x8 float32",
    "div 1x16x8x8,1x16x1x1>1x16x8x8 float32",
    'div 1x16x8x8>1x16x8x8 float32 detail="const=1x1x8x8"',
    'concat 1x16x8x8,1x8x8x8>1x24x8x8 float32 detail="axis=1"',
    'concat 1x16x8x8,1x16x8x8,1x16x8x8>1x16x24x8 float32 detail="axis=2"',
    "batch_norm 1x16x8x8>1x16x8x8 relu float32",
    "batch_norm 1x16>1x16 float32",
    "layer_norm 1x7x32>1x7x32 float32",
    'softmax 1x10>1x10 float32 detail="axis=1"',
    'log_softmax 1x10>1x10 float32 detail="axis=1"',
    'reduce_mean 1x7x32>1x32 float32 detail="axes=1"',
    'reduce_mean 1x7x32>1x1x32 float32 detail="axes=1"',
    "flatten 1x16x4x4>1x256 float32",
    "reshape 1x16x4x4>1x4x4x4x4 float32",
    'transpose 1x16x4x5>1x4x5x16 float32 detail="perm=0,2,3,1"',
    'slice 1x16x8x8>1x16x4x8 float32 detail="axes=2 starts=0 steps=2"',
    'slice 1x16x8x8>1x8x8x8 float32 detail="axes=1,2 starts=8,7 steps=1,-1"',
    'pad 1x16x8x8>1x32x8x8 float32 detail="pads=0,8,0,0,0,8,0,0 mode=constant"',
    'pad 1x16x8x8>1x16x10x10 float32 detail="pads=0,0,1,1,0,0,1,1 mode=reflect"',
    'resize 1x16x8x8>1x16x16x16 float32 detail="mode=nearest"',
    'resize 1x16x8x8>1x16x16x16 float32 detail="mode=linear"',
    *(f"{activation} 1x16x8x8>1x16x8x8 float32" for activation in ACTIVATIONS),
    *(f"{activation} 1x16>1x16 float32" for activation in ACTIVATIONS),
    *(f"conv 1x16x8x8>1x16x8x8 k1x1 s1x1 p0,0,0,0 d1x1 g1 bias {activation} float32" for activation in ACTIVATIONS),
]


def session_of(artifact: Artifact, saved: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for name, size in artifact.options.get("free_dimensions", {}).items():
        options.add_free_dimension_override_by_name(name, size)
    if saved:
        options.optimized_model_filepath = str(saved)
    return onnxruntime.InferenceSession(artifact.data, options, providers=["CPUExecutionProvider"])


def draw(artifact: Artifact) -> dict[str, np.ndarray]:
    """Inputs as the agent draws them."""
    feed = {}
    for one in artifact.inputs:
        generator = np.random.default_rng(one.seed)
        values = {
            "normal": generator.standard_normal,
            "uniform": generator.random,
            "integers": lambda shape, generator=generator: generator.integers(0, 100, shape),
        }[one.distribution](one.shape)
        feed[one.name] = np.asarray(values).astype(one.dtype)
    return feed


def assert_sane(output: np.ndarray) -> None:
    assert np.isfinite(output).all()
    assert 1e-6 <= np.abs(output).max() <= 1e6
    tiny = np.abs(output[output != 0])
    assert not (tiny < np.finfo(np.float32).tiny).any(), "subnormal values"


@pytest.mark.parametrize("key", LAYERS)
def test_every_layer_runs_and_gives_sane_values_of_its_output_shape(key):
    layer = Layer.parse(key)
    artifact = RUNTIME.layer(layer)
    session = session_of(artifact)
    assert [one.name for one in session.get_inputs()] == [one.name for one in artifact.inputs]
    (output,) = session.run(None, draw(artifact))
    assert output.shape == layer.output_shape
    assert_sane(output)
    assert artifact.label == key
    assert (artifact.runtime, artifact.suffix) == ("onnxruntime", ".onnx")


def test_no_operation_is_left_out():
    assert {Layer.parse(key).op for key in LAYERS} == set(OPS) - {"unsupported"}


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


@st.composite
def convolutions(draw_from):
    groups = draw_from(st.sampled_from([1, 1, 2, "depthwise"]))
    inner, outer = draw_from(st.integers(1, 24)), draw_from(st.integers(1, 24))
    if groups == "depthwise":
        groups, outer = inner, inner
    elif groups == 2:
        inner, outer = 2 * inner, 2 * outer
    kernel = (draw_from(st.integers(1, 5)), draw_from(st.integers(1, 5)))
    stride = (draw_from(st.integers(1, 3)), draw_from(st.integers(1, 3)))
    dilation = (draw_from(st.integers(1, 2)), draw_from(st.integers(1, 2)))
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw_from(st.integers(0, kernel[axis % 2] // 2)) for axis in range(4))
    size = [draw_from(st.integers(max(1, span[axis] - padding[axis] - padding[axis + 2]), 14)) for axis in (0, 1)]
    output = [(size[at] + padding[at] + padding[at + 2] - span[at]) // stride[at] + 1 for at in (0, 1)]
    return Layer(
        "conv",
        ((1, inner, *size),),
        (1, outer, *output),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        draw_from(st.booleans()),
        draw_from(st.sampled_from(["", "relu", "relu6", "hard_swish", "sigmoid", "tanh", "silu"])),
        draw_from(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 3))
def test_every_convolution_runs_and_gives_sane_values(layer, seed):
    artifact = RUNTIME.layer(layer, seed=seed)
    (output,) = session_of(artifact).run(None, draw(artifact))
    assert output.shape == layer.output_shape
    assert_sane(output)


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


def test_the_same_layer_and_seed_give_the_same_bytes_in_any_process():
    key = "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32"
    script = (
        "from hwloop.layers import Layer\nfrom hwloop.runtimes import get_runtime\n"
        f"print(get_runtime('onnxruntime').layer(Layer.parse({key!r})).sha256)"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert other == RUNTIME.layer(Layer.parse(key)).sha256
    assert RUNTIME.layer(Layer.parse(key), seed=1).sha256 != other


def test_rows_of_large_weights_differ():
    layer = Layer.parse("linear 1x4096>1x512 float32")
    (weight,) = onnx.load_model_from_string(RUNTIME.layer(layer).data).graph.initializer
    values = onnx.numpy_helper.to_array(weight)
    assert len(np.unique(values[:, :4], axis=0)) == len(values)
    assert math.isclose(values.std(), math.sqrt(2 / 4096), rel_tol=0.05)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Layer("unsupported", ((1, 4),), (1, 4), detail="TopK(axis=1): unknown"), r"TopK\(axis=1\)"),
        (Layer("relu", ((1, 4),), (1, 4), dtype="float16"), "float16"),
        (Layer.parse("avg_pool 1x16x9x9>1x16x5x5 k3x3 s1x1 p0,0,0,0 d2x2 float32"), "dilated"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(layer, reason):
    with pytest.raises(ModelError, match=reason):
        RUNTIME.layer(layer)


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
