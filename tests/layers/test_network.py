from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.errors import ModelError
from hwloop.layers import Layer, Network, Node, ScalableNetwork
from tests.layers.allocator import brute_force_peak


def conv(name, source, shape, outputs, *, groups=1, residual=None):
    layer = Layer(
        "conv",
        (shape,),
        (1, outputs, *shape[2:]),
        (3, 3),
        (1, 1),
        (1, 1, 1, 1),
        groups=groups,
        residual=residual is not None,
    )
    return Node(name, layer, (source,) if residual is None else (source, residual))


def plain(name, key, *sources):
    return Node(name, Layer.parse(key), sources)


def residual_network():
    """stem -> (inner -> outer) + stem -> pool -> flatten -> fc."""
    return Network(
        (
            conv("stem", -1, (1, 3, 4, 4), 8),
            conv("inner", 0, (1, 8, 4, 4), 6),
            conv("outer", 1, (1, 6, 4, 4), 8, residual=0),
            plain("pool", "max_pool 1x8x4x4>1x8x2x2 k2x2 s2x2 p0,0,0,0 d1x1 float32", 2),
            plain("flatten", "flatten 1x8x2x2>1x32 float32", 3),
            plain("fc", "linear 1x32>1x10 bias float32", 4),
        ),
        ((1, 3, 4, 4),),
        (5,),
    )


@pytest.fixture
def residual():
    return residual_network()


def test_resizing_nothing_changes_nothing(residual):
    assert residual.resized({}) == residual


def test_widths_are_propagated_to_everything_behind(residual):
    small = residual.resized({"stem": 5, "outer": 5, "inner": 2})
    assert [layer.key for layer in small.layers] == [
        "conv 1x3x4x4>1x5x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 float32",
        "conv 1x5x4x4>1x2x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 float32",
        "conv 1x2x4x4>1x5x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 +add float32",
        "max_pool 1x5x4x4>1x5x2x2 k2x2 s2x2 p0,0,0,0 d1x1 float32",
        "flatten 1x5x2x2>1x20 float32",
        "linear 1x20>1x10 bias float32",
    ]


def test_operands_of_a_residual_sum_must_agree_and_both_are_named(residual):
    with pytest.raises(ModelError, match=r"outer.*stem.*8 and 5"):
        residual.resized({"stem": 5})


def test_a_width_can_be_set_for_weights_only(residual):
    for name in ("pool", "nobody"):
        with pytest.raises(ModelError, match=name):
            residual.resized({name: 3})
    with pytest.raises(ModelError, match="inner"):
        residual.resized({"inner": 0})


def test_operands_of_a_standalone_sum_must_agree_and_both_are_named():
    network = Network(
        (
            conv("left", -1, (1, 3, 4, 4), 8),
            conv("right", -1, (1, 3, 4, 4), 8),
            plain("sum", "add 1x8x4x4,1x8x4x4>1x8x4x4 float32", 0, 1),
        ),
        ((1, 3, 4, 4),),
        (2,),
    )
    assert network.resized({"left": 4, "right": 4}).layers[2].out_channels == 4
    with pytest.raises(ModelError, match=r"left.*right.*sum.*4 and 8"):
        network.resized({"left": 4})
    with pytest.raises(ModelError, match=r"left.*right.*group0 and 8"):
        ScalableNetwork(network, [["left"]])


@pytest.fixture
def everything():
    """Depthwise with multiplier, squeeze and excite, slice and pad, concatenation, broadcast constants."""
    return Network(
        (
            conv("stem", -1, (1, 3, 4, 4), 8),
            conv("depth", 0, (1, 8, 4, 4), 16, groups=8),
            plain("squeeze", "global_avg_pool 1x16x4x4>1x16x1x1 float32", 1),
            Node("excite", Layer.parse("conv 1x16x1x1>1x16x1x1 k1x1 s1x1 p0,0,0,0 d1x1 g1 sigmoid float32"), (2,)),
            plain("scale", "mul 1x16x4x4,1x16x1x1>1x16x4x4 float32", 1, 3),
            plain("cut", 'slice 1x8x4x4>1x8x2x4 float32 detail="axes=2 starts=0 steps=2"', 0),
            plain("pad", 'pad 1x8x2x4>1x12x4x4 float32 detail="pads=0,1,0,0,0,3,2,0 mode=constant"', 5),
            plain("shift", 'add 1x12x4x4>1x12x4x4 float32 detail="const=channel"', 6),
            plain("join", 'concat 1x16x4x4,1x12x4x4>1x28x4x4 float32 detail="axis=1"', 4, 7),
            plain("norm", "batch_norm 1x28x4x4>1x28x4x4 float32", 8),
            conv("grouped", 9, (1, 28, 4, 4), 8, groups=2),
            plain("mean", 'global_avg_pool 1x8x4x4>1x8 float32 detail="reduce"', 10),
            plain("unsqueeze", "reshape 1x8>1x8x1x1 float32", 11),
            plain("soft", 'softmax 1x8x1x1>1x8x1x1 float32 detail="axis=1"', 12),
            plain("flat", "flatten 1x8x1x1>1x8 float32", 13),
            plain("fc", "linear 1x8>1x10 bias float32", 14),
            plain("more", "linear 1x10>1x4 float32", 15),
        ),
        ((1, 3, 4, 4),),
        (15, 16),
    )


def test_every_kind_of_propagation(everything):
    small = everything.resized({"stem": 4, "excite": 8, "grouped": 6, "fc": 3})
    channels = {node.name: (node.layer.in_channels, node.layer.out_channels) for node in small.nodes}
    assert channels == {
        "stem": (3, 4),
        "depth": (4, 8),
        "squeeze": (8, 8),
        "excite": (8, 8),
        "scale": (8, 8),
        "cut": (4, 4),
        "pad": (4, 8),
        "shift": (8, 8),
        "join": (16, 16),
        "norm": (16, 16),
        "grouped": (16, 6),
        "mean": (6, 6),
        "unsqueeze": (6, 6),
        "soft": (6, 6),
        "flat": (6, 6),
        "fc": (6, 3),
        "more": (3, 4),
    }
    assert small.nodes[6].layer.output_shape == (1, 8, 4, 4)


def test_a_depthwise_convolution_follows_its_input(everything):
    small = everything.resized({"stem": 4, "excite": 8})
    depth = small.nodes[1].layer
    assert (depth.groups, depth.in_channels, depth.out_channels) == (4, 4, 8)
    assert everything.resized({"stem": 4, "depth": 8, "excite": 8}) == small
    with pytest.raises(ModelError, match=r"depth is depthwise.*stem"):
        everything.resized({"stem": 4, "depth": 6})


def test_groups_that_do_not_divide_are_refused_by_name(everything):
    with pytest.raises(ModelError, match="grouped"):
        everything.resized({"grouped": 3})
    scalable = ScalableNetwork(everything, [["grouped"]])
    with pytest.raises(ModelError, match="grouped"):
        scalable.macs([[3]])


def test_what_cannot_be_resized_is_named_and_harmless_as_long_as_its_input_stays():
    network = Network(
        (
            conv("stem", -1, (1, 3, 4, 4), 8),
            Node("odd", Layer("unsupported", ((1, 8, 4, 4),), (1, 2, 4, 4), detail="DepthToSpace()"), (0,)),
            conv("last", 1, (1, 2, 4, 4), 6),
        ),
        ((1, 3, 4, 4),),
        (2,),
    )
    assert network.unsupported == (network.nodes[1],)
    assert network.resized({"last": 3}).layers[2].out_channels == 3
    with pytest.raises(ModelError, match=r"odd \(DepthToSpace\(\)\).*stem"):
        network.resized({"stem": 4})


def test_peak_activations_are_those_of_an_allocator(residual, everything):
    for network in (residual, everything):
        assert network.peak_activation_bytes == brute_force_peak(network)
    # inner is computed while stem waits for the sum
    assert residual.peak_activation_bytes == 4 * 16 * (8 + 6 + 8)


def assert_agreement(scalable, widths):
    ins, outs = scalable.channels(widths)
    columns = [scalable.macs(widths), scalable.parameters(widths), scalable.weight_bytes(widths)]
    columns.append(scalable.peak_activation_bytes(widths))
    for row, candidate in enumerate(widths):
        network = scalable.at(candidate)
        assert ins[row].tolist() == [layer.in_channels for layer in network.layers]
        assert outs[row].tolist() == [layer.out_channels for layer in network.layers]
        expected = [network.macs, network.parameters, network.weight_bytes, network.peak_activation_bytes]
        assert [int(column[row]) for column in columns] == expected
        assert all(column.dtype == np.int64 for column in columns)


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=4))
def test_vectorised_figures_of_a_residual_network_are_exactly_those_of_each_network(widths):
    assert_agreement(ScalableNetwork(residual_network(), [["stem", "outer"], ["inner"]]), widths)


def test_vectorised_figures_agree_for_every_operation(everything):
    # excite follows depth, which follows stem: twice the group's width cannot be a group of its own
    scalable = ScalableNetwork(everything, [["grouped"], ["fc"]])
    rng = np.random.default_rng(0)
    assert_agreement(scalable, (rng.integers(1, 40, (20, 2)) * 2).tolist())
    assert scalable.base_widths.tolist() == [8, 10]
    assert scalable.at(scalable.base_widths.tolist()) == everything


def test_groups_that_make_no_sense_are_refused(residual):
    for groups, reason in (
        ([["stem"]], "outer"),
        ([["stem", "outer"], ["stem"]], "two channel groups"),
        ([["stem", "inner"]], "different widths"),
        ([["nobody"]], "nobody"),
        ([[]], "does not have"),
        ([["pool"]], "pool"),
    ):
        with pytest.raises(ModelError, match=reason):
            ScalableNetwork(residual, groups)


def test_widths_of_the_wrong_shape_or_size_are_refused(residual):
    scalable = ScalableNetwork(residual, [["stem", "outer"], ["inner"]])
    for widths in ([1, 2], [[1]], [[0, 1]]):
        with pytest.raises(ModelError):
            scalable.macs(widths)
    with pytest.raises(ModelError):
        scalable.at([4])


def test_no_candidates_and_no_groups_are_fine(residual):
    scalable = ScalableNetwork(residual, [["inner"]])
    assert scalable.macs(np.zeros((0, 1), int)).shape == (0,)
    fixed = ScalableNetwork(residual, [])
    assert fixed.macs(np.zeros((3, 0), int)).tolist() == [residual.macs] * 3


@pytest.mark.parametrize(
    ("nodes", "outputs", "reason"),
    [
        ([("a", (0,))], (0,), "does not exist"),
        ([("a", (-2,))], (0,), "does not exist"),
        ([("a", (-1,)), ("a", (0,))], (1,), "two nodes"),
        ([("a", (-1,))], (1,), "returns tensor 1"),
        ([("a", (-1, -1))], (0,), "2 inputs"),
    ],
)
def test_a_graph_that_does_not_fit_together_is_refused(nodes, outputs, reason):
    layer = Layer("relu", ((1, 4),), (1, 4))
    with pytest.raises(ModelError, match=reason):
        Network(tuple(Node(name, layer, sources) for name, sources in nodes), ((1, 4),), outputs)


def test_a_node_must_get_the_shape_that_its_layer_takes():
    with pytest.raises(ModelError, match=r"b expects \(1, 5\) where a gives \(1, 4\)"):
        Network((plain("a", "relu 1x4>1x4 float32", -1), plain("b", "relu 1x5>1x5 float32", 0)), ((1, 4),), (1,))


def test_a_linear_layer_on_channels_last_maps_counts_its_features_and_keeps_its_width():
    network = Network(
        (
            conv("stem", -1, (1, 3, 4, 4), 8),
            plain("last", 'transpose 1x8x4x4>1x4x4x8 float32 detail="perm=0,2,3,1"', 0),
            plain("mix", "linear 1x4x4x8>1x4x4x6 bias float32", 1),
            plain("after", "relu 1x4x4x6>1x4x4x6 float32", 2),
        ),
        ((1, 3, 4, 4),),
        (3,),
    )
    scalable = ScalableNetwork(network, [])
    macs = 16 * 8 * 3 * 9 + 16 * 8 * 6
    assert network.macs == macs
    assert_agreement(scalable, [()])
    assert scalable.macs([()]).tolist() == [macs]
    assert network.resized({}) == network
    with pytest.raises(ModelError, match="mix reads the last of 4 axes"):
        network.resized({"mix": 3})
    with pytest.raises(ModelError, match="stem"):
        network.resized({"stem": 4})
