"""ONNX files as other tools write them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwloop.errors import ModelError
from hwloop.extraction import network_from_onnx

IMAGE = ("batch", 3, 8, 8)


def build(
    nodes, *, constants=None, shape=IMAGE, opset=17, outputs=("y",), kind=TensorProto.FLOAT, value_info=(), functions=()
):
    weights = {"w": np.zeros((4, 3, 3, 3), np.float32), **(constants or {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        value_info=value_info,
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("custom", 1)]
    return helper.make_model(graph, opset_imports=domains, functions=functions)


def keys(model, **arguments):
    return [layer.key for layer in network_from_onnx(model, **arguments).layers]


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


CLIP = "relu6 1x3x8x8>1x3x8x8 float32"


def test_clip_is_read_in_both_spellings():
    attributes = build([node("Clip", "x", "y", min=0.0, max=6.0)], opset=7)
    inputs = build([node("Clip", "x low high", "y")], constants={"low": np.float32(0), "high": np.float32(6)})
    only_low = build([node("Clip", "x low", "y")], constants={"low": np.float32(0)})
    assert keys(attributes) == keys(inputs) == [CLIP]
    assert keys(only_low) == ["clip 1x3x8x8>1x3x8x8 float32"]


def test_squeeze_is_read_in_both_spellings():
    pool = node("GlobalAveragePool", "x", "p")
    attributes = build([pool, node("Squeeze", "p", "y", axes=[2, 3])], opset=11)
    inputs = build([pool, node("Squeeze", "p axes", "y")], constants={"axes": np.array([2, 3])})
    assert (
        keys(attributes)
        == keys(inputs)
        == [
            "global_avg_pool 1x3x8x8>1x3x1x1 float32",
            "reshape 1x3x1x1>1x3 float32",
        ]
    )


def test_pad_is_read_in_both_spellings():
    pads = [0, 1, 0, 0, 0, 2, 0, 1]
    attributes = build([node("Pad", "x", "y", pads=pads, mode="reflect")], opset=10)
    inputs = build([node("Pad", "x pads", "y", mode="reflect")], constants={"pads": np.array(pads)})
    expected = ['pad 1x3x8x8>1x6x8x9 float32 detail="pads=0,1,0,0,0,2,0,1 mode=reflect"']
    assert keys(attributes) == keys(inputs) == expected


def test_slice_is_read_in_both_spellings_with_negative_bounds():
    attributes = build([node("Slice", "x", "y", axes=[3], starts=[-6], ends=[9999])], opset=9)
    inputs = build(
        [node("Slice", "x starts ends axes", "y")],
        constants={"starts": np.array([-6]), "ends": np.array([2**62]), "axes": np.array([-1])},
    )
    assert keys(attributes) == keys(inputs) == ['slice 1x3x8x8>1x3x8x6 float32 detail="axes=3 starts=2 steps=1"']


@pytest.mark.parametrize("opset", [13, 18])
def test_a_mean_over_the_map_is_a_global_pool(opset):
    if opset < 18:
        model = build([node("ReduceMean", "x", "y", axes=[-1, 2], keepdims=0)], opset=opset)
    else:
        model = build([node("ReduceMean", "x axes", "y", keepdims=0)], constants={"axes": np.array([3, 2])}, opset=18)
    assert keys(model) == ['global_avg_pool 1x3x8x8>1x3 float32 detail="reduce"']


def test_a_mean_over_other_axes_is_not():
    model = build([node("ReduceMean", "x", "y", axes=[1])])
    assert keys(model) == ['reduce_mean 1x3x8x8>1x1x8x8 float32 detail="axes=1"']


@pytest.mark.parametrize(
    ("pad", "expected"), [("SAME_UPPER", "p0,0,1,1"), ("SAME_LOWER", "p1,1,0,0"), ("VALID", "p0,0,0,0")]
)
def test_automatic_padding_is_spelled_out(pad, expected):
    model = build([node("Conv", "x w", "y", auto_pad=pad, strides=[2, 2])])
    assert f" {expected} " in keys(model)[0]


def test_a_shape_chain_before_a_reshape_disappears():
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n"),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "n1 minus", "target", axis=0),
        node("Reshape", "x target", "flat"),
        node("Relu", "flat", "y"),
    ]
    constants = {"zero": np.array(0), "axis": np.array([0]), "minus": np.array([-1])}
    expected = ["reshape 1x3x8x8>1x192 float32", "relu 1x192>1x192 float32"]
    assert keys(build(nodes, constants=constants)) == expected
    assert keys(build(nodes, constants=constants), batch=4) == [key.replace("1x", "4x") for key in expected]


def test_nodes_that_do_nothing_disappear():
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a", "b"),
        node("Cast", "b", "c", to=TensorProto.FLOAT),
        node("Pad", "c zeros", "d"),
        node("Relu", "d", "e"),
        node("Relu", "d", "unused"),
        node("Identity", "e", "y"),
    ]
    network = network_from_onnx(build(nodes, constants={"zeros": np.zeros(8, np.int64)}))
    assert [layer.key for layer in network.layers] == ["relu 1x3x8x8>1x3x8x8 float32"]
    assert network.outputs == (0,)


def test_a_matrix_product_with_its_bias_and_activation_is_one_layer():
    constants = {"m": np.zeros((192, 5), np.float32), "b": np.zeros(5, np.float32)}
    nodes = [node("Flatten", "x", "f"), node("MatMul", "f m", "p"), node("Add", "b p", "a"), node("Relu", "a", "y")]
    assert keys(build(nodes, constants=constants))[1:] == ["linear 1x192>1x5 bias relu float32"]


def test_a_function_of_the_model_is_read_by_its_body():
    body = [node("Relu", "a", "b")]
    function = helper.make_function("custom", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    model = build([node("Twice", "x", "y", domain="custom")], functions=[function])
    assert keys(model) == ["relu 1x3x8x8>1x3x8x8 float32"]


def test_a_foreign_operator_is_unsupported_and_its_declared_shape_is_used():
    nodes = [node("Mystery", "x", "m", domain="custom", level=3), node("Relu", "m", "y")]
    declared = helper.make_tensor_value_info("m", TensorProto.FLOAT, ("batch", 5))
    network = network_from_onnx(build(nodes, value_info=[declared]))
    assert [layer.op for layer in network.layers] == ["unsupported", "relu"]
    assert network.layers[0].detail == "custom.Mystery(level=3): an operator of a foreign domain"
    assert network.layers[1].key == "relu 1x5>1x5 float32"


def test_behind_an_unknown_shape_layers_are_unsupported_too_and_say_so():
    nodes = [node("Mystery", "x", "m", domain="custom"), node("Relu", "m", "y")]
    network = network_from_onnx(build(nodes))
    assert [layer.op for layer in network.layers] == ["unsupported", "unsupported"]
    assert "output shape is not known" in network.layers[0].detail
    assert "a shape is not known" in network.layers[1].detail


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Nonsense", "x", "y")],
        [node("MaxPool", "x", "y")],
        [node("Gemm", "x", "y")],
        [node("TopK", "x k", "y indices", axis=1)],
        [node("MaxPool", "x", "p i", kernel_shape=[2, 2]), node("Cast", "i", "i2", to=1), node("Add", "p i2", "y")],
        [node("Conv", "x x", "y")],
        [node("NonZero", "x", "y")],
        [node("Cast", "x", "y", to=TensorProto.STRING)],
        [node("RandomNormal", "", "r", shape=[1, 3, 8, 8]), node("Add", "x r", "y")],
        [node("BatchNormalization", "x s s s s", "y m v", training_mode=1)],
        [node("Slice", "x big big", "y")],
    ],
)
def test_no_single_operator_can_make_the_whole_network_unreadable(nodes):
    constants = {"k": np.array([2]), "s": np.ones(3, np.float32), "big": np.array([8, 8])}
    network = network_from_onnx(build(nodes, constants=constants))
    assert network.unsupported
    assert all(node.layer.detail for node in network.unsupported)


def test_names_are_unique_and_never_empty():
    nodes = [node("Relu", "x", "a"), node("Relu", "a", "b", name="twin"), node("Relu", "b", "y", name="twin")]
    assert [one.name for one in network_from_onnx(build(nodes)).nodes] == ["a", "twin", "twin#2"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"shape": None}, "no known rank"),
        ({"shape": ("batch", 3, "height", 8)}, "symbolic size 'height' at axis 2"),
        ({"shape": (8, 3, 8, 8)}, "fixed batch of 8, not 1"),
    ],
)
def test_inputs_without_a_fixed_shape_are_refused(arguments, reason):
    with pytest.raises(ModelError, match=reason):
        network_from_onnx(build([node("Relu", "x", "y")], **arguments))


def test_files_are_read_and_bad_ones_refused_in_one_line(tmp_path):
    good, empty, text = tmp_path / "good.onnx", tmp_path / "empty.onnx", tmp_path / "text.onnx"
    onnx.save_model(build([node("Relu", "x", "y")]), good)
    empty.write_bytes(b"")
    text.write_text("this is not a model")
    assert keys(good) == keys(good.read_bytes()) == ["relu 1x3x8x8>1x3x8x8 float32"]
    for bad in (empty, text, tmp_path / "missing.onnx", tmp_path, b"nonsense"):
        with pytest.raises(ModelError) as caught:
            network_from_onnx(bad)
        assert "\n" not in str(caught.value)


def test_a_damaged_graph_is_refused():
    with pytest.raises(ModelError, match="reads 'nobody', which nothing makes"):
        network_from_onnx(build([node("Relu", "nobody", "y")]))


def test_a_truncated_file_is_refused_or_read_but_never_crashes():
    data = build([node("Conv", "x w", "c"), node("Relu", "c", "y")]).SerializeToString()
    refused = 0
    for size in range(0, len(data), 7):
        try:
            network_from_onnx(data[:size])
        except ModelError:
            refused += 1
    assert refused > 50


def test_flipped_bytes_are_refused_or_read_but_never_crash():
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Clip", "c low high", "r"),
        node("Slice", "r starts ends", "s"),
        node("Shape", "s", "n"),
        node("Reshape", "s n", "y"),
    ]
    constants = {"low": np.float32(0), "high": np.float32(6), "starts": np.array([0]), "ends": np.array([1])}
    data = build(nodes, constants=constants).SerializeToString()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(1000):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        try:
            outcomes.add(bool(network_from_onnx(bytes(damaged)).nodes))
        except ModelError as error:
            outcomes.add("two lines" if "\n" in str(error) else "refused")
    assert outcomes == {True, "refused"}
