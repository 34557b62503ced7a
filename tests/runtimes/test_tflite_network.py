"""Whole networks written as TFLite models compute what torch computes, in the operators of their layers."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from hwloop.errors import ModelError
from hwloop.extraction import LITERT, export_onnx, network_from_onnx
from hwloop.models import build_model, settle
from hwloop.runtimes import Artifact, get_runtime
from tests.runtimes.running import interpreter_of

RUNTIME = get_runtime("litert")
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
TOLERANCE = 1e-4


def operators(artifact: Artifact) -> list[str]:
    """The operators of a model in order, read from its file."""
    model = schema.Model.GetRootAs(artifact.data)
    graph = model.Subgraphs(0)
    indices = [graph.Operators(at).OpcodeIndex() for at in range(graph.OperatorsLength())]
    return [NAMES[model.OperatorCodes(index).BuiltinCode()] for index in indices]


def outputs(artifact: Artifact, images: torch.Tensor, *, xnnpack: bool = True) -> list[np.ndarray]:
    """What a model gives for an input in torch's order, in torch's order."""
    fed = images.permute(0, 2, 3, 1) if images.ndim == 4 else images
    interpreter = interpreter_of(
        artifact, {artifact.inputs[0].name: np.ascontiguousarray(fed.numpy())}, xnnpack=xnnpack
    )
    interpreter.invoke()
    values = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    return [one.transpose(0, 3, 1, 2) if one.ndim == 4 else one for one in values]


def assert_like_torch(module: nn.Module, shape: tuple[int, ...], artifact: Artifact | None = None) -> Artifact:
    module.eval()
    artifact = artifact or RUNTIME.module(module, shape)
    torch.manual_seed(1)
    images = torch.randn(1, *shape)
    with torch.no_grad():
        wanted = module(images)
    for xnnpack in (True, False):
        (found,) = outputs(artifact, images, xnnpack=xnnpack)
        assert found.shape == tuple(wanted.shape)
        np.testing.assert_allclose(found, wanted.numpy(), atol=TOLERANCE, rtol=0)
    return artifact


class Made(nn.Module):
    """A network of a few parts and a function over them."""

    def __init__(self, forward, **parts):
        super().__init__()
        torch.manual_seed(0)
        for name, part in parts.items():
            self.add_module(name, part)
        self.body = forward

    def forward(self, images):
        return self.body(self, images)


def conv(inner, outer, kernel=3, **arguments):
    return nn.Conv2d(inner, outer, kernel, **arguments)


def attention(m, x):
    tokens = m.patches(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([m.norm.weight[None, None] * torch.ones(1, 1, 8), tokens], 1)
    q, k, v = m.qkv(m.norm(tokens)).reshape(1, 17, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
    tokens = tokens + mixed.transpose(1, 2).reshape(1, 17, 8)
    return m.head(F.gelu(tokens)[:, 0])


def shuffle(m, x):
    x = m.a(x)
    x = x.reshape(1, 2, 4, 8, 8).transpose(1, 2).reshape(1, 8, 8, 8)
    return m.b(x)


def squeeze_excite(m, x):
    x = F.silu(m.a(x))
    gate = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3))))))
    return x * gate[:, :, None, None]


NETWORKS = {
    "linear behind a flattened image": Made(
        lambda m, x: m.fc(m.a(x).flatten(1)), a=conv(3, 4), fc=nn.Linear(4 * 6 * 6, 5)
    ),
    "two linears behind a flattened image": Made(
        lambda m, x: m.fc(m.a(x).flatten(1)) - m.fd(m.a(x).flatten(1)),
        a=conv(3, 4),
        fc=nn.Linear(144, 5),
        fd=nn.Linear(144, 5),
    ),
    "activation between flatten and linear": Made(
        lambda m, x: m.fc(F.relu(m.a(x).flatten(1))), a=conv(3, 4), fc=nn.Linear(144, 5)
    ),
    "the flattened image is the result": Made(lambda m, x: m.a(x).flatten(1), a=conv(3, 4)),
    "linear without bias over tokens": Made(
        lambda m, x: F.relu(m.fc(m.a(x).flatten(2).transpose(1, 2))), a=conv(3, 4), fc=nn.Linear(4, 6, bias=False)
    ),
    "image made of tokens": Made(
        lambda m, x: m.b(F.gelu(m.a(x).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(1, 4, 6, 6)),
        a=conv(3, 4),
        b=conv(4, 2),
    ),
    "channels last and back": Made(
        lambda m, x: m.b(m.norm(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        a=conv(3, 4),
        norm=nn.Linear(4, 4),
        b=conv(4, 2),
    ),
    "heights and widths swapped": Made(lambda m, x: m.a(x).transpose(2, 3) + m.a(x), a=conv(3, 4)),
    "channel shuffle": Made(shuffle, a=conv(3, 8, padding=1), b=conv(8, 4)),
    "squeeze and excite": Made(squeeze_excite, a=conv(3, 8), down=nn.Linear(8, 2), up=nn.Linear(2, 8)),
    "attention": Made(
        attention, patches=conv(3, 8, 2, stride=2), norm=nn.LayerNorm(8), qkv=nn.Linear(8, 24), head=nn.Linear(8, 3)
    ),
    "concatenation and split": Made(
        lambda m, x: torch.cat([*m.a(x).split([1, 3], 1), m.b(x)], 1), a=conv(3, 4), b=conv(3, 2)
    ),
    "constants before their operand": Made(
        lambda m, x: (2.5 + torch.sigmoid(1.5 - m.a(x))) * m.scale.weight.reshape(1, 4, 1, 1),
        a=conv(3, 4),
        scale=nn.Linear(4, 1),
    ),
    "batch normalisation first": Made(lambda m, x: m.a(F.relu(m.bn(x))), bn=nn.BatchNorm2d(3), a=conv(3, 4)),
    "prelu, leaky, elu": Made(
        lambda m, x: F.elu(F.leaky_relu(m.p(m.a(x)), 0.3)), a=conv(3, 4), p=nn.PReLU(4, init=0.4)
    ),
    "clips": Made(lambda m, x: m.a(x).clamp(-0.1, 0.2) + m.a(x).clamp(min=0.05) + m.a(x).clamp(max=0.3), a=conv(3, 4)),
    "hard activations": Made(
        lambda m, x: F.hardswish(m.a(x)) * F.hardsigmoid(m.a(x)) + F.relu6(9 * m.a(x)), a=conv(3, 4)
    ),
    "padded average pools": Made(
        lambda m, x: (
            (F.avg_pool2d(x, 3, 1, 1) + F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))[:, :, ::2, ::2]
            + F.avg_pool2d(x, 3, 2, 1)
            + F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            + F.avg_pool2d(x, 2, 2)
        ),
    ),
    "average pools that round up": Made(
        lambda m, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True) + F.avg_pool2d(x, 3, 2, 1, True, count_include_pad=False)
    ),
    "maximum pools": Made(
        lambda m, x: F.max_pool2d(x, 3, 2, 1) + F.max_pool2d(x, 2, 2) + F.max_pool2d(x - 5, 3, 2, 0, ceil_mode=True)
    ),
    "resized images": Made(
        lambda m, x: (
            F.interpolate(x, scale_factor=2)
            + F.interpolate(x, (16, 16), mode="bilinear")
            + F.interpolate(x, (16, 16), mode="bilinear", align_corners=True)
        )
    ),
    "padded and sliced": Made(lambda m, x: F.pad(x[:, 1:, ::2, 1:-1], (1, 2, 0, 1, 1, 0), value=0.5) + 1),
    "mean over one axis": Made(lambda m, x: m.a(x).mean(3), a=conv(3, 4)),
    "mean that keeps the axes": Made(lambda m, x: m.a(x) - m.a(x).mean((1, 2), keepdim=True), a=conv(3, 4)),
    "softmax over the channels": Made(lambda m, x: m.a(x).softmax(1) + m.a(x).softmax(3), a=conv(3, 4)),
    "grouped and depthwise convolutions": Made(
        lambda m, x: m.c(m.b(m.a(x))),
        a=conv(3, 8, stride=2, padding=1),
        b=conv(8, 16, groups=8, padding=2, dilation=2),
        c=conv(16, 8, groups=4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_torch_computes(name):
    assert_like_torch(NETWORKS[name], (3, 8, 8))


def test_vectors_are_no_images():
    assert_like_torch(Made(lambda m, x: m.b(F.relu(m.a(x))), a=nn.Linear(6, 4), b=nn.Linear(4, 3)), (6,))


SIZES = {"lenet5": (1, 28, 28)}


def zoo(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network of the zoo for images of 32 pixels, with statistics that keep its values sane."""
    shape = SIZES.get(name, (3, 32, 32))
    torch.manual_seed(0)
    module = build_model(name, num_classes=10, in_channels=shape[0], image_size=shape[1])
    settle(module, shape)
    return module.eval(), shape


LARGE = ["resnet18", "mobilenet_v1", "efficientnet_b0", "googlenet"]


@pytest.mark.parametrize(
    "name",
    ["lenet5", "resnet8", "mobilenet_v2", "vit_tiny", *(pytest.param(one, marks=pytest.mark.slow) for one in LARGE)],
)
def test_the_zoo_computes_what_torch_computes_in_the_operators_of_its_layers(name):
    module, shape = zoo(name)
    data = export_onnx(module, shape, fold=True)
    artifact = assert_like_torch(module, shape, RUNTIME.onnx(data, name))
    assert artifact.layout == "NHWC"
    assert [(one.name, one.shape) for one in artifact.inputs] == [("input", (1, *shape[1:], shape[0]))]
    network = network_from_onnx(data, rules=RUNTIME.fusion)
    assert not network.unsupported
    expected = sum((Counter(operators(RUNTIME.layer(layer))) for layer in network.layers), Counter())
    found = Counter(operators(artifact))
    assert name == "vit_tiny" or "TRANSPOSE" not in found
    # Views and transpositions depend on where the tensors lie; the work must be that of the layers.
    for move in ("RESHAPE", "TRANSPOSE"):
        found.pop(move, None)
        expected.pop(move, None)
    assert found == expected


def test_an_onnx_file_with_batch_normalisations_gets_them_folded():
    module, shape = zoo("resnet8")
    data = export_onnx(module, shape, fold=False)
    assert "BatchNormalization" in {node.op_type for node in onnx.load_model_from_string(data).graph.node}
    artifact = assert_like_torch(module, shape, RUNTIME.onnx(data, "resnet8.onnx"))
    assert artifact.label == "resnet8.onnx"
    assert operators(artifact) == operators(RUNTIME.module(module, shape))


def onnx_model(nodes, constants, shape=(1, 6), elem_type=onnx.TensorProto.FLOAT) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem_type, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_matrix_products_of_every_spelling_and_constants_that_are_computed():
    """Nodes without names, weights behind a transposition, Gemm with factors, and what is folded behind a product."""
    random = np.random.default_rng(0)
    weights = {
        "a": random.random((80, 6)),
        "b": random.random((80, 70)),
        "c": random.random(70),
        "d": random.random((70, 3)),
    }
    nodes = [
        helper.make_node("Transpose", ["a"], ["a_t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "a_t"], ["h"]),
        helper.make_node("Gemm", ["h", "b", "c"], ["i"], alpha=0.5, beta=2.0),
        helper.make_node("MatMul", ["i", "d"], ["j"]),
        helper.make_node("Add", ["three", "j"], ["k"]),
        helper.make_node("Relu", ["k"], ["y"]),
    ]
    weights["three"] = np.array([-9e4, 2.0, 3.0])
    artifact = RUNTIME.onnx(onnx_model(nodes, weights), "products")
    assert operators(artifact) == ["FULLY_CONNECTED"] * 3
    values = random.random((1, 6)).astype(np.float32)
    product = 0.5 * (values @ weights["a"].T) @ weights["b"] + 2 * weights["c"]
    expected = np.maximum(product @ weights["d"] + weights["three"], 0)
    (found,) = outputs(artifact, torch.from_numpy(values))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_constant_may_come_first():
    nodes = [helper.make_node("Sub", ["three", "x"], ["a"]), helper.make_node("Div", ["two", "a"], ["y"])]
    artifact = RUNTIME.onnx(onnx_model(nodes, {"two": np.array([2.0]), "three": np.array(3.0)}), "first")
    (found,) = outputs(artifact, torch.ones(1, 6))
    np.testing.assert_allclose(found, np.ones((1, 6)), rtol=1e-6)


def test_two_nodes_of_one_name_are_told_apart():
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"], name="twin"),
        helper.make_node("Sigmoid", ["a"], ["b"], name="twin"),
        helper.make_node("Mul", ["b", "three"], ["y"], name="twin"),
    ]
    artifact = RUNTIME.onnx(onnx_model(nodes, {"two": np.array(2.0), "three": np.array(3.0)}), "twins")
    (found,) = outputs(artifact, torch.ones(1, 6))
    np.testing.assert_allclose(found, 3 / (1 + np.exp(-2.0)), rtol=1e-5)


def test_several_outputs_and_an_input_that_is_passed_through():
    model = Made(lambda m, x: (m.a(x), F.relu(m.a(x)).mean((2, 3)), x), a=conv(3, 4))
    example = torch.randn(1, 3, 8, 8)
    (first, second, third) = outputs(RUNTIME.onnx(several(model, example), "three"), example)
    with torch.no_grad():
        wanted = model(example)
    for found, expected in zip((first, second, third), wanted, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=TOLERANCE)


def several(module: nn.Module, example: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.onnx.export(module.eval(), (example,), file, dynamo=False, opset_version=17)
    return file.getvalue()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"nonsense", "mine.onnx is not an ONNX model"),
        (onnx_model([helper.make_node("Sin", ["x"], ["y"])], {}), "mine.onnx cannot be written.*Sin"),
        (onnx_model([helper.make_node("Selu", ["x"], ["y"])], {}), "mine.onnx cannot be written.*no operator for selu"),
        (
            onnx_model([helper.make_node("Neg", ["x"], ["y"])], {}, elem_type=onnx.TensorProto.INT32),
            "mine.onnx.*int32|Neg",
        ),
    ],
)
def test_what_cannot_be_written_is_named(model, reason):
    with pytest.raises(ModelError, match=reason):
        RUNTIME.onnx(model, "mine.onnx")


def test_the_same_network_gives_the_same_bytes():
    module, shape = zoo("resnet8")
    assert RUNTIME.module(module, shape).sha256 == RUNTIME.module(module, shape).sha256


def test_the_rules_of_litert_are_those_of_its_operators():
    module = Made(
        lambda m, x: F.relu(m.b(F.hardswish(m.bn(m.a(x)))) + x)[:, :, ::2],
        a=conv(3, 8, padding=1),
        bn=nn.BatchNorm2d(8),
        b=conv(8, 3, padding=1),
    )
    keys = [layer.key for layer in network_from_onnx(export_onnx(module, (3, 8, 8), fold=False), rules=LITERT).layers]
    assert keys == [
        "conv 1x3x8x8>1x8x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias float32",
        "hard_swish 1x8x8x8>1x8x8x8 float32",
        "conv 1x8x8x8>1x3x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias float32",
        "add 1x3x8x8,1x3x8x8>1x3x8x8 relu float32",
        'slice 1x3x8x8>1x3x4x8 float32 detail="axes=2 starts=0 steps=2"',
    ]
