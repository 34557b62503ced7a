"""Every network of the zoo is read completely, and as the runtimes execute it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

from hwloop.extraction import TORCH_EAGER, FusionRules, export_onnx, network_from_onnx
from hwloop.layers import Layer
from hwloop.models import build_model, model_defaults, settle
from hwloop.runtimes import TorchRuntime, get_runtime
from tests.extraction.test_fusion import (  # noqa: F401 - a fixture
    as_executed,
    executed_by_hwloop,
    executed_by_onnxruntime,
    optimised_graph,
    rules,
)
from tests.runtimes.test_torch import head

SLOW = pytest.mark.slow
WIDER = [
    *("efficientnet_b0", "googlenet", "mobilenet_v2", "resnet18"),
    *(pytest.param(name, marks=SLOW) for name in ("mobilenet_v1", "resnet50")),
]
CALLED_TOO = ["mobilenet_v2", *(pytest.param(name, marks=SLOW) for name in ("efficientnet_b0", "googlenet"))]


def exported(name: str, **arguments: int) -> tuple[torch.nn.Module, bytes]:
    """A network of the zoo for images of CIFAR's size, and its ONNX file."""
    torch.manual_seed(0)
    shape = (model_defaults(name).input_shape[0], 32, 32)
    module = build_model(name, num_classes=10, in_channels=shape[0], image_size=32, arguments=arguments)
    settle(module, shape)
    return module.eval(), export_onnx(module, shape, fold=True)


@pytest.mark.parametrize("name", WIDER)
def test_a_network_of_the_zoo_is_read_as_onnxruntime_executes_it(name: str, rules: FusionRules, tmp_path: Path):  # noqa: F811
    _, model = exported(name)
    network = network_from_onnx(model, rules=rules)
    assert not network.unsupported
    assert as_executed(executed_by_hwloop(network), rules) == executed_by_onnxruntime(model, tmp_path)


def test_nothing_of_a_transformer_is_left_out(tmp_path: Path):
    """onnxruntime turns transpositions around and joins a sum and a normalisation; products and the like must agree."""
    _, model = exported("vit_tiny", depth=2)
    network = network_from_onnx(model)
    assert not network.unsupported
    ops = Counter(layer.op for layer in network.layers)
    executed = Counter(node.op_type for node in optimised_graph(model, tmp_path).node)
    # Token-wise linear layers are Gemm in newer versions, MatMul and Add in older ones.
    assert ops["matmul"] + ops["linear"] == executed["MatMul"] + executed["FusedMatMul"] + executed["Gemm"] == 4 + 9
    assert ops["softmax"] == executed["Softmax"] == 2
    assert ops["gelu"] == sum(count for name, count in executed.items() if "Gelu" in name) == 2
    assert ops["layer_norm"] == executed["LayerNormalization"] + executed["SkipLayerNormalization"] == 5
    assert ops["concat"] == executed["Concat"] == 1
    assert ops["mul"] == executed["Mul"] == 0  # the scale of the scores went into their product
    assert network.macs == sum(count * macs for count, macs in transformer_macs())


def transformer_macs() -> list[tuple[int, int]]:
    """By hand: 64 patches and a class token of 192 features, two blocks of three heads."""
    tokens, features = 65, 192
    block = tokens * features * (3 + 1 + 4 + 4) * features + 2 * tokens * tokens * features
    return [(1, 64 * features * 4 * 4 * 3), (2, block), (1, features * 10)]


CALLED = {
    "conv2d": "conv",
    "max_pool2d": "max_pool",
    "adaptive_avg_pool2d": "global_avg_pool",
    "hardtanh": "relu6",
    "cat": "concat",
}


@pytest.mark.parametrize("name", CALLED_TOO)
def test_a_network_of_the_zoo_is_read_as_torch_executes_it(name: str):
    module, model = exported(name)
    calls = Counter(
        CALLED.get(name := call["op"].split(".")[0], name)
        for call in head(TorchRuntime().module(module, (3, 32, 32)))["calls"]
    )
    assert calls == Counter(layer.op for layer in network_from_onnx(model, rules=TORCH_EAGER).layers)


def test_a_constant_that_is_concatenated_is_part_of_the_layer():
    layer = Layer.parse('concat 1x64x192>1x65x192 float32 detail="axis=1 const=0:1x1x192"')
    for runtime in ("onnxruntime", "torch"):
        artifact = get_runtime(runtime).layer(layer)
        assert [one.shape for one in artifact.inputs] == [(1, 64, 192)]
    graph = onnx.load_model_from_string(get_runtime("onnxruntime").layer(layer).data).graph
    assert list(graph.node[0].input) == [graph.initializer[0].name, "input_0"]
