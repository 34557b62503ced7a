"""Candidates without some blocks: the figures of thousands at once are exactly those of each network by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.errors import ModelError
from hwloop.layers import Alternative, Block, Layer, Network, Node, ScalableNetwork
from tests.layers.allocator import brute_force_peak

SHAPE = (1, 3, 4, 4)


def conv(name, inputs, ins, outs, *, residual=False, activation="", kernel=3, stride=1, size=4):
    pad = (kernel // 2,) * 4
    made = size // stride
    layer = Layer(
        "conv",
        ((1, ins, size, size),),
        (1, outs, made, made),
        (kernel, kernel),
        (stride, stride),
        pad,
        bias=True,
        residual=residual,
        activation=activation,
    )
    return Node(name, layer, inputs)


def resnet():
    """A stem, two identity blocks, a block with a projection shortcut, an identity block, a classifier.

    The sum of the block with the projection is fused into its second convolution; without the block the activation
    behind the sum is fused into the projection.
    """
    nodes = (
        conv("stem", (-1,), 3, 8, activation="relu"),
        conv("a1", (0,), 8, 6, activation="relu"),
        conv("a2", (1, 0), 6, 8, residual=True, activation="relu"),
        conv("b1", (2,), 8, 5, activation="relu"),
        conv("b2", (3, 2), 5, 8, residual=True, activation="relu"),
        conv("c1", (4,), 8, 10, activation="relu", stride=2),
        conv("short", (4,), 8, 12, kernel=1, stride=2),
        conv("c2", (5, 6), 10, 12, residual=True, activation="relu", size=2),
        conv("d1", (7,), 12, 9, activation="relu", size=2),
        conv("d2", (8, 7), 9, 12, residual=True, activation="relu", size=2),
        Node("mean", Layer.parse('global_avg_pool 1x12x2x2>1x12 float32 detail="reduce"'), (9,)),
        Node("fc", Layer.parse("linear 1x12>1x4 bias float32"), (10,)),
    )
    return Network(nodes, (SHAPE,), (11,))


GROUPS = [["stem", "a2", "b2"], ["a1"], ["b1"], ["c1"], ["short", "c2", "d2"], ["d1"]]
BLOCKS = [
    Block("a", ("a1", "a2"), 2, 0),
    Block("b", ("b1", "b2"), 4, 2),
    Block("c", ("c1", "c2"), 7, 6),
    Block("d", ("d1", "d2"), 9, 7),
]
SHORT = conv("short", (4,), 8, 12, kernel=1, stride=2, activation="relu")
# As if the runtime could not take the residual in behind the projection: b2 falls apart where c is gone.
APART = (
    conv("d2", (8,), 9, 12, size=2),
    Node("d:add", Layer.parse("add 1x12x2x2,1x12x2x2>1x12x2x2 float32"), (12, 7)),
    Node("d:relu", Layer.parse("relu 1x12x2x2>1x12x2x2 float32"), (13,)),
)
ALTERNATIVES = [Alternative("short", frozenset({"c"}), (SHORT,)), Alternative("d2", frozenset({"c"}), APART)]


def scalable():
    return ScalableNetwork(resnet(), GROUPS, BLOCKS, ALTERNATIVES)


candidates = st.lists(
    st.tuples(st.tuples(*[st.integers(1, 40)] * 6), st.tuples(*[st.booleans()] * 4)), min_size=1, max_size=6
)


@given(candidates)
def test_vectorised_figures_are_exactly_those_of_each_network(drawn):
    network = scalable()
    widths, blocks = [w for w, _ in drawn], [b for _, b in drawn]
    columns = (
        network.macs(widths, blocks),
        network.parameters(widths, blocks),
        network.weight_bytes(widths, blocks),
        network.peak_activation_bytes(widths, blocks),
    )
    ins, outs = network.channels(widths)
    present = network.present(blocks)
    for row, (candidate, remains) in enumerate(drawn):
        one = network.at(candidate, remains)
        expected = [one.macs, one.parameters, one.weight_bytes, brute_force_peak(one)]
        assert [int(column[row]) for column in columns] == expected
        assert one.peak_activation_bytes == expected[-1]
        executed = sorted(
            (network.nodes[at].name, network.layers[at].op, int(ins[row, at]), int(outs[row, at]))
            for at in np.flatnonzero(present[row])
        )
        assert executed == sorted(
            (node.name, node.layer.op, node.layer.in_channels, node.layer.out_channels) for node in one.nodes
        )


def test_a_removed_block_hands_its_readers_on():
    network = scalable()
    base = network.base_widths.tolist()
    none = network.at(base, [False] * 4)
    assert [node.name for node in none.nodes] == ["stem", "short", "mean", "fc"]
    assert [node.inputs for node in none.nodes] == [(-1,), (0,), (1,), (2,)]
    assert none.nodes[1].layer.activation == "relu"
    without_c = network.at(base, [True, True, False, True])
    assert [node.name for node in without_c.nodes][5:] == ["short", "d1", "d2", "d:add", "d:relu", "mean", "fc"]
    assert without_c.nodes[8].inputs == (7, 5)
    assert network.at(base, [True] * 4) == network.at(base) == resnet()


def test_without_flags_all_blocks_remain_and_the_alternatives_are_idle():
    network = scalable()
    assert network.present().tolist() == [[True] * 12 + [False] * 4]
    widths = np.random.default_rng(0).integers(1, 30, (20, 6))
    plain = ScalableNetwork(resnet(), GROUPS)
    for figure in ("macs", "parameters", "weight_bytes", "peak_activation_bytes"):
        found = getattr(network, figure)(widths)
        assert (found == getattr(plain, figure)(widths)).all()
        assert (found == getattr(network, figure)(widths, np.ones((20, 4)))).all()


def test_the_largest_set_of_removed_blocks_decides_between_two_alternatives():
    gone = Alternative("fc", frozenset({"a", "b"}), (Node("fc", Layer.parse("linear 1x12>1x4 float32"), (10,)),))
    other = Alternative("fc", frozenset({"a"}), (Node("fc", Layer.parse("linear 1x12>1x4 bias relu float32"), (10,)),))
    network = ScalableNetwork(resnet(), GROUPS, BLOCKS, [other, gone])
    base = network.base_widths.tolist()
    assert not network.at(base, [False, False, True, True]).layers[-1].bias
    assert network.at(base, [False, True, True, True]).layers[-1].activation == "relu"
    assert network.at(base, [True, False, True, True]).layers[-1] == resnet().layers[-1]


@pytest.mark.parametrize(
    ("blocks", "alternatives", "reason"),
    [
        ([Block("a", ("a1", "nobody"), 2, 0)], [], "block a has nodes that the network does not have: nobody"),
        ([Block("a", ("a1", "a2"), 2, 0)] * 2, [], "two blocks have one name"),
        ([Block("a", ("a1", "a2"), 2, 20)], [], "tensor 20, which does not exist"),
        ([Block("c", ("c1", "c2"), 7, 4)], [], r"block c cannot be replaced: it makes \(1, 12, 2, 2\)"),
        ([Block("a", ("a1",), 1, 0)], [], "block a cannot be replaced"),
        (BLOCKS, [Alternative("short", frozenset({"x"}), (SHORT,))], "an alternative for 'short' without x"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks, alternatives, reason):
    with pytest.raises(ModelError, match=reason):
        ScalableNetwork(resnet(), GROUPS, blocks, alternatives)


def test_a_block_whose_width_can_differ_from_its_replacement_is_refused():
    nodes = (
        conv("stem", (-1,), 3, 8),
        conv("next", (0,), 8, 8),
        Node("mean", Layer.parse('global_avg_pool 1x8x4x4>1x8 float32 detail="reduce"'), (1,)),
    )
    with pytest.raises(ModelError, match="block plain cannot be left out: next and stem"):
        ScalableNetwork(Network(nodes, (SHAPE,), (2,)), [["stem"], ["next"]], [Block("plain", ("next",), 1, 0)])


def test_what_is_still_read_of_a_removed_block_is_named():
    network = ScalableNetwork(resnet(), GROUPS, [Block("a", ("a1", "a2"), 4, 0)])
    with pytest.raises(ModelError, match="what a2 makes is read without the block"):
        network.at(network.base_widths.tolist(), [False])


@pytest.mark.parametrize("blocks", [[[True] * 3], [True] * 4, [[True] * 4] * 2, [[2, 1, 1, 1]]])
def test_flags_of_the_wrong_shape_or_kind_are_refused(blocks):
    with pytest.raises(ModelError, match="blocks must be"):
        scalable().macs([[8, 6, 5, 10, 12, 9]], blocks)


def test_what_only_removed_blocks_read_goes_with_the_last_of_them():
    # d1 stands for what the branches of a and d share: idle only without both
    idle = Alternative("d1", frozenset({"a", "d"}), ())
    network = ScalableNetwork(resnet(), GROUPS, [BLOCKS[0], Block("d", ("d2",), 9, 7)], [idle])
    base = network.base_widths.tolist()
    assert "d1" in [node.name for node in network.at(base, [True, False]).nodes]
    gone = network.at(base, [False, False])
    assert "d1" not in [node.name for node in gone.nodes]
    assert network.macs([base], [[False, False]]).tolist() == [gone.macs]
    assert network.peak_activation_bytes([base], [[False, False]]).tolist() == [brute_force_peak(gone)]
