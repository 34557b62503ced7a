from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

from hwloop.errors import ModelError
from hwloop.extraction import export_onnx, network_from_onnx, network_from_torch
from hwloop.layers import Layer, ScalableNetwork

GROUPS = {
    "lenet": [["conv1"], ["conv2"], ["fc1"], ["fc2"]],
    "residual option A": [["layer1.0.conv1"], ["layer2.0.conv1"], ["layer2.1.conv1"]],
    "residual projection": [
        ["conv1", "layer1.0.conv2"],
        ["layer1.0.conv1"],
        ["layer2.0.conv1"],
        ["layer2.0.conv2", "layer2.0.project.0", "layer2.1.conv2"],
        ["layer2.1.conv1"],
    ],
    "vgg": [["features.0"], ["features.3"], ["features.7"], ["features.11"], ["classifier.0"]],
    "mobile": [["stem.0", "project.0"], ["expand.0", "depth.0", "excite"], ["squeeze"]],
    "inception": [["stem"], ["one"], ["three.0"], ["three.2"], ["pooled"], ["after"]],
    "preactivation": [["conv1", "conv2"], ["fc1"], ["fc2"]],
}
GROUPS["residual projection first"] = GROUPS["residual projection"]


def test_nodes_are_named_by_torch_module_path(net):
    name, module, shape = net
    network = network_from_torch(module, shape)
    weighted = {node.name for node in network.nodes if node.layer.op in ("conv", "linear")}
    parts = {path for path, part in module.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))}
    assert weighted == parts, name
    assert not network.unsupported


def test_a_folded_export_has_the_same_layers(net):
    _, module, shape = net
    folded = network_from_onnx(export_onnx(module, shape, fold=True))
    assert folded.layers == network_from_torch(module, shape).layers


def test_macs_are_those_that_torch_executes(net):
    _, module, shape = net
    counted = []

    def count(part, _, output):
        weight = part.weight[0].numel()
        counted.append(output[0].numel() * weight)

    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            part.register_forward_hook(count)
    module.eval()(torch.zeros(1, *shape))
    for part in module.modules():
        part._forward_hooks.clear()
    assert network_from_torch(module, shape).macs == sum(counted)


def test_every_source_node_is_accounted_for_once(net):
    _, module, shape = net
    sources = [source for node in network_from_torch(module, shape).nodes for source in node.sources]
    assert len(sources) == len(set(sources))
    assert all(sources)


def test_vectorised_figures_of_every_net_are_exactly_those_of_each_resized_network(net):
    name, module, shape = net
    network = network_from_torch(module, shape)
    scalable = ScalableNetwork(network, GROUPS[name])
    widths = np.random.default_rng(0).integers(1, 80, (12, len(GROUPS[name])))
    widths[0] = scalable.base_widths
    if name == "mobile":
        widths[1:, 0] *= 2  # the grouped convolution behind it has two groups
    ins, outs = scalable.channels(widths)
    for row, candidate in enumerate(widths.tolist()):
        one = scalable.at(candidate)
        assert ins[row].tolist() == [layer.in_channels for layer in one.layers]
        assert outs[row].tolist() == [layer.out_channels for layer in one.layers]
        assert scalable.macs(widths)[row] == one.macs
        assert scalable.parameters(widths)[row] == one.parameters
        assert scalable.weight_bytes(widths)[row] == one.weight_bytes
        assert scalable.peak_activation_bytes(widths)[row] == one.peak_activation_bytes
    assert scalable.at(widths[0].tolist()) == network


@pytest.mark.parametrize("shortcut", ["residual option A", "residual projection"])
def test_a_resized_network_is_the_one_that_a_narrower_module_has(shortcut, build_net):
    """The widths that surgery would leave, built as a module of their own."""
    module, shape = build_net(shortcut)
    network = network_from_torch(module, shape)
    block = module.layer2[1]
    block.conv1 = nn.Conv2d(32, 8, 3, 1, 1, bias=False)
    block.bn1 = nn.BatchNorm2d(8)
    block.conv2 = nn.Conv2d(8, 32, 3, 1, 1, bias=False)
    assert network_from_torch(module, shape).layers == network.resized({"layer2.1.conv1": 8}).layers


def test_option_a_shortcuts_are_slices_and_a_pad_of_fixed_size(build_net):
    module, shape = build_net("residual option A")
    network = network_from_torch(module, shape)
    ops = [layer.op for layer in network.layers]
    assert (ops.count("slice"), ops.count("pad")) == (2, 1)
    pad = next(layer for layer in network.layers if layer.op == "pad")
    assert pad.detail == "pads=0,8,0,0,0,8,0,0 mode=constant"
    stage = {node.name for node in network.nodes if node.layer.op == "conv"} - {
        node.name for node in network.nodes if node.name.endswith("0.conv1") or node.name == "layer2.1.conv1"
    }
    widths = {name: (12 if name in ("conv1", "layer1.0.conv2") else 28) for name in stage}
    assert network.resized(widths).layers[-1].in_channels == 28  # 12 + 16 zeros
    with pytest.raises(ModelError, match="Pad"):
        network.resized({"conv1": 12, "layer1.0.conv2": 12})


def test_a_module_that_is_used_twice_gets_a_suffix():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return self.conv(F.relu(self.conv(x)))

    assert [node.name for node in network_from_torch(Twice(), (8, 4, 4)).nodes] == ["conv", "conv#2"]


def test_linear_layers_on_tokens_are_named_and_not_fused_with_their_activation():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(8, 16)
            self.norm = nn.LayerNorm(16)
            self.down = nn.Linear(16, 8, bias=False)

        def forward(self, x):
            return self.down(self.norm(F.relu(self.up(x))))

    network = network_from_torch(Tokens(), (5, 8))
    assert [(node.name, node.layer.key) for node in network.nodes if not node.name.startswith("/")] == [
        ("up", "linear 1x5x8>1x5x16 bias float32"),
        ("norm", "layer_norm 1x5x16>1x5x16 float32"),
        ("down", "linear 1x5x16>1x5x8 float32"),
    ]
    assert network.resized({"up": 12}).macs == 5 * 12 * 16


def test_channel_shuffles_and_splits_are_read_but_not_resized():
    class Shuffle(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)

        def forward(self, x):
            x = self.conv(x)
            n, c, h, w = x.shape
            left, right = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w).chunk(2, 1)
            return torch.cat([right, left], 1)

    network = network_from_torch(Shuffle(), (3, 8, 8))
    assert [layer.op for layer in network.layers] == [
        "conv",
        "reshape",
        "transpose",
        "reshape",
        "slice",
        "slice",
        "concat",
    ]
    assert not network.unsupported
    with pytest.raises(ModelError, match="conv"):
        network.resized({"conv": 8})


def test_what_hwloop_does_not_know_is_named_and_kept_with_its_shape():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, padding=1)
            self.up = nn.ConvTranspose2d(16, 8, 2, 2)
            self.last = nn.Conv2d(2, 4, 3, padding=1)

        def forward(self, x):
            return self.last(F.pixel_shuffle(self.up(self.conv(x)), 2))

    network = network_from_torch(Odd(), (3, 8, 8))
    assert [layer.op for layer in network.layers] == ["conv", "unsupported", "unsupported", "conv"]
    details = [node.layer.detail for node in network.unsupported]
    assert details[0].startswith("ConvTranspose(")
    assert "strides=[2, 2]" in details[0]
    assert details[1].startswith("DepthToSpace(blocksize=2, mode=CRD)")
    assert [node.layer.output_shape for node in network.unsupported] == [(1, 8, 16, 16), (1, 2, 32, 32)]
    assert all(Layer.parse(layer.key) == layer for layer in network.layers)
