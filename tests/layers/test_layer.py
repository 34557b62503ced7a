from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.errors import ModelError
from hwloop.layers import ACTIVATIONS, ITEM_BYTES, OPS, Layer

sizes = st.integers(1, 40)
texts = st.text(max_size=30)


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    height, width = draw(sizes), draw(sizes)
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw(st.integers(0, 3)) + max(0, spans[axis % 2] - 1) for axis in range(4))
    output = tuple(
        (size + padding[axis] + padding[axis + 2] - spans[axis]) // stride[axis] + 1
        for axis, size in enumerate((height, width))
    )
    return Layer(
        "conv",
        ((1, groups * draw(sizes), height, width),),
        (1, groups * draw(sizes), *output),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(["", *ACTIVATIONS])),
        draw(st.booleans()),
        draw(st.sampled_from(sorted(ITEM_BYTES))),
        draw(texts),
    )


@st.composite
def other_layers(draw):
    names = sorted(name for name, op in OPS.items() if not op.geometry and name != "linear")
    op = OPS[draw(st.sampled_from(names))]
    count = draw(st.integers(op.inputs[0], min(op.inputs[1], 4)))
    shapes = st.lists(sizes, max_size=4).map(tuple)
    return Layer(
        op.name,
        tuple(draw(shapes) for _ in range(count)),
        draw(shapes),
        activation=draw(st.sampled_from(["", *ACTIVATIONS])) if op.fuses else "",
        dtype=draw(st.sampled_from(sorted(ITEM_BYTES))),
        detail=draw(texts),
    )


@given(st.one_of(convolutions(), other_layers()))
def test_a_key_is_read_back_as_the_same_layer(layer):
    assert Layer.parse(layer.key) == layer
    assert "\n" not in layer.key


@given(st.one_of(convolutions(), other_layers()), st.one_of(convolutions(), other_layers()))
def test_two_layers_share_a_key_only_if_they_are_equal(one, two):
    assert (one.key == two.key) == (one == two)


def test_a_key_is_readable():
    layer = Layer(
        "conv", ((1, 16, 32, 32),), (1, 32, 16, 16), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, True, "relu", True
    )
    assert layer.key == "conv 1x16x32x32>1x32x16x16 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "conv",
        "linear 1x400>1x120 bias relu",
        "linear 1x400>1x120 relu bias float32",
        "linear 1x400>1x120 bias float33",
        "linear 1x400>1x120 float32\n",
        "linear 1x400>1x120 float32 k3x3 s1x1 p0,0,0,0 d1x1",
        "linear 1xx400>1x120 float32",
        "juggle 1x400>1x120 float32",
        'relu 1x4>1x4 float32 detail="unfinished',
        "conv 1x16x32x32>1x32x16x16 float32",
        "linear 1x400>2x120 float32",
    ],
)
def test_text_that_is_no_key_is_refused_in_one_line(key):
    with pytest.raises(ModelError) as caught:
        Layer.parse(key)
    assert "\n" not in str(caught.value)


def brute_force_macs(layer):
    """Count the multiplications of a convolution one output value at a time."""
    taps = (layer.in_channels // layer.groups) * layer.kernel[0] * layer.kernel[1]
    return sum(taps for _ in range(math.prod(layer.output_shape)))


@pytest.mark.parametrize(
    ("key", "macs", "parameters", "read", "written"),
    [
        (
            "conv 1x2x4x4>1x3x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu +add float32",
            3 * 16 * 2 * 9,
            3 * 2 * 9 + 3,
            4 * (2 * 16 + 3 * 16 + 3 * 2 * 9 + 3),
            4 * 3 * 16,
        ),
        ("conv 1x4x4x4>1x4x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g4 float32", 4 * 16 * 9, 36, 4 * (64 + 36), 256),
        ("conv 1x4x4x4>1x8x4x4 k1x1 s1x1 p0,0,0,0 d1x1 g2 float16", 8 * 16 * 2, 16, 2 * (64 + 16), 256),
        ("linear 1x400>1x120 bias float32", 48_000, 48_120, 4 * (400 + 48_120), 480),
        ("linear 1x7x16>1x7x8 float32", 7 * 16 * 8, 128, 4 * (7 * 16 + 128), 4 * 7 * 8),
        ("matmul 1x5x8,1x8x3>1x5x3 float32", 5 * 8 * 3, 0, 4 * (40 + 24), 60),
        ("max_pool 1x4x8x8>1x4x4x4 k2x2 s2x2 p0,0,0,0 d1x1 float32", 0, 0, 4 * 256, 256),
        ("add 1x4x8x8,1x4x8x8>1x4x8x8 relu float32", 0, 0, 2 * 1024, 1024),
        ("batch_norm 1x4x8x8>1x4x8x8 float32", 0, 16, 4 * (256 + 16), 1024),
        ("flatten 1x4x8x8>1x256 float32", 0, 0, 0, 0),
    ],
)
def test_work_and_traffic_are_counted_by_the_conventions(key, macs, parameters, read, written):
    layer = Layer.parse(key)
    assert (layer.macs, layer.parameters, layer.bytes_read, layer.bytes_written) == (macs, parameters, read, written)


@given(convolutions())
def test_macs_of_a_convolution_are_its_outputs_times_its_taps(layer):
    assert layer.macs == brute_force_macs(layer)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"op": "juggle"}, "unknown operation"),
        ({"dtype": "float8"}, "unknown data type"),
        ({"groups": 3}, "groups"),
        ({"activation": "juggle"}, "activation"),
        ({"output_shape": (1, 8, 5, 4)}, "cannot become"),
        ({"output_shape": (2, 8, 4, 4)}, "one batch size"),
        ({"input_shapes": ((1, 4, 0, 4),)}, "a size below 1"),
        ({"input_shapes": ()}, "0 inputs"),
        ({"kernel": (9, 9)}, "cannot become"),
        ({"stride": (0, 1)}, "at least 1"),
    ],
)
def test_an_impossible_layer_is_refused_with_the_reason(changes, reason):
    layer = Layer.parse("conv 1x4x4x4>1x8x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 float32")
    with pytest.raises(ModelError, match=reason):
        replace(layer, **changes)


def test_only_what_has_a_meaning_for_the_operation_can_be_set():
    relu = Layer("relu", ((1, 4),), (1, 4))
    for changes in ({"kernel": (3, 3)}, {"bias": True}, {"residual": True}, {"groups": 4}, {"activation": "relu"}):
        with pytest.raises(ModelError):
            replace(relu, **changes)


def test_a_pool_may_round_its_size_up_but_a_convolution_may_not():
    Layer.parse("max_pool 1x4x8x8>1x4x4x4 k3x3 s2x2 p0,0,0,0 d1x1 float32")
    with pytest.raises(ModelError):
        Layer.parse("conv 1x4x8x8>1x4x4x4 k3x3 s2x2 p0,0,0,0 d1x1 g1 float32")


def test_a_resized_layer_keeps_its_geometry():
    layer = Layer.parse("conv 1x16x8x8>1x32x4x4 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32")
    assert layer.resized((5,), 7).key == "conv 1x5x8x8>1x7x4x4 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32"


def test_a_resized_depthwise_convolution_keeps_one_group_per_channel():
    layer = Layer.parse("conv 1x16x8x8>1x32x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g16 float32")
    assert layer.depthwise
    assert layer.resized((5,), 10).groups == 5


def test_resizing_to_widths_that_groups_do_not_divide_is_refused():
    layer = Layer.parse("conv 1x16x8x8>1x32x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g2 float32")
    with pytest.raises(ModelError, match="multiples of 2 groups"):
        layer.resized((5,), 32)
    with pytest.raises(ModelError, match="inputs"):
        layer.resized((4, 4), 32)


def test_channels_are_features_of_matrices_and_tokens_and_sums_of_concatenations():
    assert Layer.parse("linear 1x7x16>1x7x8 float32").in_channels == 16
    assert Layer.parse('concat 1x4x2x2,1x6x2x2>1x10x2x2 float32 detail="axis=1"').in_channels == 10
    assert Layer.parse("add 1x4x2x2,1x4x2x2>1x4x2x2 float32").in_channels == 4
    assert Layer.parse("relu ()>() float32").out_channels == 0


def test_layers_sort_and_serve_as_dictionary_keys():
    layers = [Layer.parse(f"linear 1x{width}>1x4 float32") for width in (3, 1, 2)]
    assert [layer.in_channels for layer in sorted(layers)] == [1, 2, 3]
    assert len({*layers, Layer.parse(layers[0].key)}) == 3


def test_a_linear_layer_works_along_its_last_axis_whatever_the_rank():
    layer = Layer.parse("linear 1x7x7x96>1x7x7x384 bias float32")  # on channels-last maps
    assert (layer.in_channels, layer.out_channels) == (96, 384)
    assert layer.macs == 7 * 7 * 96 * 384
    assert layer.parameters == 96 * 384 + 384
    assert layer.resized((48,), 200).key == "linear 1x7x7x48>1x7x7x200 bias float32"
    assert Layer.parse("linear 5>3 float32").macs == 15
    with pytest.raises(ModelError, match="at least one axis"):
        Layer.parse("linear ()>() float32")
