"""The layers that hwloop reads are those that the installed onnxruntime executes."""

from __future__ import annotations

from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

from hwloop.extraction import ONNXRUNTIME_ARM, ONNXRUNTIME_X86, export_onnx, network_from_onnx, network_from_torch

EXECUTED = {
    "Conv": "conv",
    "FusedConv": "conv",
    "Gemm": "linear",
    "FusedGemm": "linear",
    "MatMul": "linear",
    "BatchNormalization": "batch_norm",
    "Relu": "relu",
    "Clip": "clip",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "Tanh": "tanh",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "PRelu": "prelu",
    "Gelu": "gelu",
    "QuickGelu": "silu",
    "HardSwish": "hard_swish",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Concat": "concat",
    "Slice": "slice",
    "Pad": "pad",
    "MaxPool": "max_pool",
    "AveragePool": "avg_pool",
    "GlobalAveragePool": "global_avg_pool",
    "ReduceMean": "global_avg_pool",
    "Reshape": "view",
    "Flatten": "view",
}


def optimised_graph(model: bytes, folder) -> onnx.GraphProto:
    path = folder / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    options.add_free_dimension_override_by_name("batch", 1)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(path).graph


def executed_by_onnxruntime(model: bytes, folder) -> Counter:
    """(operation, takes a residual, fused activation) of every node, layout changes left out."""
    executed = Counter()
    own = {node.name for node in onnx.load_model_from_string(model).graph.node}
    for node in optimised_graph(model, folder).node:
        if node.op_type in ("ReorderInput", "ReorderOutput") or (node.op_type == "Reshape" and node.name not in own):
            continue
        activation = next((a.s.decode() for a in node.attribute if a.name == "activation"), "")
        residual = node.op_type in ("Conv", "FusedConv") and len(node.input) > 3 and bool(node.input[3])
        executed[EXECUTED[node.op_type], residual, EXECUTED.get(activation, "")] += 1
    return executed


def executed_by_hwloop(network) -> Counter:
    plain = {"relu6": "clip", "flatten": "view", "reshape": "view"}
    return Counter(
        (plain.get(layer.op, layer.op), layer.residual, plain.get(layer.activation, layer.activation))
        for layer in network.layers
    )


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """The rules for this machine: some have no blocked layout."""
    folder = tmp_path_factory.mktemp("rules")
    conv = export_onnx(nn.Conv2d(16, 16, 3), (16, 8, 8), fold=True)
    blocked = any(node.domain == "com.microsoft.nchwc" for node in optimised_graph(conv, folder).node)
    return ONNXRUNTIME_X86 if blocked else ONNXRUNTIME_ARM


def as_executed(counts: Counter, rules) -> Counter:
    """In the blocked layout onnxruntime computes a batch normalisation as a depthwise convolution."""
    if rules.block == 1:
        return counts
    result = Counter()
    for (op, residual, activation), count in counts.items():
        folded = op == "batch_norm" and activation == "relu"
        result["conv" if folded else op, residual, activation] += count
    return result


@pytest.mark.parametrize("fold", [False, True])
def test_every_net_is_read_as_onnxruntime_executes_it(net, fold, rules, tmp_path):
    name, module, shape = net
    network = network_from_torch(module, shape, rules=rules)
    model = export_onnx(module, shape, fold=fold)
    assert as_executed(executed_by_hwloop(network), rules) == executed_by_onnxruntime(model, tmp_path), name


class Pattern(nn.Module):
    def __init__(self, forward, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.one = nn.Conv2d(width, width, 3, padding=1)
        self.two = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, width, 1)
        self.bn = nn.BatchNorm2d(width)
        self.channel = nn.Parameter(torch.full((width, 1, 1), 2.0))
        self.pattern = forward

    def forward(self, x):
        return self.last(self.pattern(self, self.stem(x)))


PATTERNS = {
    "relu": lambda m, x: F.relu(m.one(x)),
    "relu6": lambda m, x: F.relu6(m.one(x)),
    "leaky relu": lambda m, x: F.leaky_relu(m.one(x), 0.1),
    "elu": lambda m, x: F.elu(m.one(x)),
    "sigmoid": lambda m, x: torch.sigmoid(m.one(x)),
    "hard sigmoid": lambda m, x: F.hardsigmoid(m.one(x)),
    "tanh": lambda m, x: torch.tanh(m.one(x)),
    "silu": lambda m, x: F.silu(m.one(x)),
    "gelu": lambda m, x: F.gelu(m.one(x)),
    "sum": lambda m, x: m.one(x) + x,
    "sum, relu": lambda m, x: F.relu(m.one(x) + x),
    "sum, sigmoid": lambda m, x: torch.sigmoid(m.one(x) + x),
    "sum, relu6": lambda m, x: F.relu6(m.one(x) + x),
    "sum, leaky relu": lambda m, x: F.leaky_relu(m.one(x) + x, 0.1),
    "sum, silu": lambda m, x: F.silu(m.one(x) + x),
    "sum of two convolutions": lambda m, x: F.relu(m.one(x) + m.two(x)),
    "relu before the sum": lambda m, x: F.relu(m.one(x)) + x,
    "a value that is used twice": lambda m, x: (lambda y: F.relu(y) * torch.tanh(y))(m.one(x)),
    "a convolution added to itself": lambda m, x: (lambda y: y + y)(m.one(x)),
    "difference": lambda m, x: m.one(x) - x,
    "product": lambda m, x: m.one(x) * m.two(x),
    "sum of a product": lambda m, x: F.relu(m.one(x) + x * m.two(x)),
    "broadcast sum": lambda m, x: F.relu(m.one(x) + F.max_pool2d(x, 8)),
    "residual from a padded slice": lambda m, x: F.relu(m.one(x) + F.pad(x[:, :, ::2, ::2], (2, 2, 2, 2))),
    "scaled by a scalar": lambda m, x: F.relu(m.one(x) * 2.0),
    "shifted by a scalar": lambda m, x: F.relu(m.one(x) + 2.0),
    "scaled per channel": lambda m, x: F.relu(m.one(x) * m.channel),
    "shifted per channel": lambda m, x: F.relu(m.one(x) + m.channel),
    "divided by a scalar": lambda m, x: F.relu(m.one(x) / 2.0),
    "scaled, then normalised": lambda m, x: F.relu(m.bn(m.one(x) * 2.0)),
    "pool": lambda m, x: F.relu(m.one(F.max_pool2d(x, 3, 1, 1)) + F.avg_pool2d(x, 3, 1, 1)),
    "concatenation": lambda m, x: torch.cat([m.one(x), F.relu(m.two(x))], 1)[:, : x.shape[1]],
}


@pytest.mark.parametrize("width", [16, 18])  # 18 channels are executed outside the blocked layout
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_every_pattern_is_fused_as_onnxruntime_fuses_it(pattern, width, rules, tmp_path):
    module = Pattern(PATTERNS[pattern], width)
    model = export_onnx(module, (3, 8, 8), fold=False)
    network = network_from_onnx(model, rules=rules)
    assert not network.unsupported
    assert as_executed(executed_by_hwloop(network), rules) == executed_by_onnxruntime(model, tmp_path)


def test_a_hard_swish_in_the_middle_of_a_network_is_fused_in_the_blocked_layout_only():
    def activations(width):
        network = network_from_torch(Pattern(lambda m, x: F.hardswish(m.one(x)), width), (3, 8, 8))
        return [layer.activation or layer.op for layer in network.layers[1:-1]]

    assert activations(16) == ["hard_swish"]
    assert activations(18) == ["conv", "hard_swish"]


def test_without_a_blocked_layout_every_convolution_takes_its_residual(build_net):
    module, shape = build_net("residual option A")
    x86 = network_from_torch(module, shape)
    arm = network_from_torch(module, shape, rules=ONNXRUNTIME_ARM)
    assert sum(layer.residual for layer in x86.layers) == 1
    assert sum(layer.residual for layer in arm.layers) == 3
    assert {layer.op for layer in x86.layers} - {layer.op for layer in arm.layers} == {"add", "relu"}
    assert x86.macs == arm.macs


def test_the_first_operand_of_a_sum_of_two_convolutions_takes_the_residual(build_net):
    for name, taker in (("residual projection", "layer2.0.conv2"), ("residual projection first", "layer2.0.project.0")):
        module, shape = build_net(name)
        nodes = {node.name: node for node in network_from_torch(module, shape).nodes}
        other = {"layer2.0.conv2", "layer2.0.project.0"} - {taker}
        assert nodes[taker].layer.residual
        assert not any(nodes[one].layer.residual for one in other)


def test_a_value_that_the_network_returns_is_not_fused_away():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            y = self.conv(x)
            return y, F.relu(y)

    network = network_from_torch(Two(), (3, 8, 8))
    assert [layer.op for layer in network.layers] == ["conv", "relu"]
    assert network.outputs == (0, 1)
