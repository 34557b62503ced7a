from __future__ import annotations

import numpy as np

from hwloop.layers import Layer, Network, Node, ScalableNetwork
from hwloop.measurement import layer_design, spread


def conv(inputs: int, outputs: int, *, residual: bool = False) -> Layer:
    return Layer(
        "conv", ((1, inputs, 8, 8),), (1, outputs, 8, 8), kernel=(3, 3), padding=(1, 1, 1, 1), residual=residual
    )


def residual_network() -> ScalableNetwork:
    nodes = (
        Node("stem", conv(3, 32), (-1,)),
        Node("inner", conv(32, 16), (0,)),
        Node("outer", conv(16, 32, residual=True), (1, 0)),
        Node("flat", Layer("flatten", ((1, 32, 8, 8),), (1, 2048)), (2,)),
        Node("head", Layer("linear", ((1, 2048),), (1, 10)), (3,)),
    )
    network = Network(nodes, ((1, 3, 8, 8),), (4,))
    return ScalableNetwork(network, [["stem", "outer"], ["inner"]])


LEVELS = [(8, 16, 24, 32), (8, 16)]


def test_spread_takes_both_ends_and_what_lies_evenly_between() -> None:
    assert spread((1, 2, 3, 4, 5), 3) == (1, 3, 5)
    assert spread((1, 2, 3, 4, 5, 6), 4) == (1, 3, 4, 6)
    assert spread((7,), 3) == (7,)


def test_each_layer_gets_the_full_grid_of_its_two_axes_and_views_get_none() -> None:
    designed = layer_design(residual_network(), LEVELS, per_axis=2)
    widths = [(layer.op, layer.in_channels, layer.out_channels, layer.residual) for layer in designed]
    assert sorted(widths) == sorted(
        [("conv", 3, w, False) for w in (8, 32)]
        + [("conv", i, o, False) for i in (8, 32) for o in (8, 16)]
        + [("conv", i, o, True) for i in (8, 16) for o in (8, 32)]
        + [("linear", 64 * i, 10, False) for i in (8, 32)]
    )


def test_every_corner_of_the_space_lies_on_measured_layers() -> None:
    scalable = residual_network()
    keys = {layer.key for layer in layer_design(scalable, LEVELS, per_axis=2)}
    for widths in np.array(np.meshgrid([8, 32], [8, 16])).T.reshape(-1, 2):
        for node in scalable.at(widths.tolist()).nodes:
            assert node.layer.op == "flatten" or node.layer.key in keys
