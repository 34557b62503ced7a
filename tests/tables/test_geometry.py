"""Layers are grouped by everything but their widths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.layers import Layer
from hwloop.tables import geometry, width_pair

widths = st.integers(1, 512)

CONV = "conv 1x8x8x8>1x8x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 float32"


@given(widths, widths, widths, widths)
def test_resizing_a_layer_never_changes_its_geometry(a: int, b: int, c: int, d: int) -> None:
    linear = Layer("linear", ((1, a),), (1, b), bias=True, activation="relu")
    assert geometry(linear.resized((c,), d)) == geometry(linear)
    assert width_pair(linear.resized((c,), d)) == (c, d)


def test_a_depthwise_convolution_keeps_its_geometry_at_any_width(conv: Callable[..., Layer]) -> None:
    assert geometry(conv(16, 16, groups=16)) == geometry(conv(24, 24, groups=24))
    assert geometry(conv(16, 16, groups=16)) != geometry(conv(16, 16))


def test_a_fixed_number_of_groups_belongs_to_the_geometry(conv: Callable[..., Layer]) -> None:
    assert geometry(conv(16, 16, groups=2)) != geometry(conv(16, 16, groups=4))
    assert geometry(conv(16, 16, groups=4)) == geometry(conv(32, 16, groups=4))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (CONV, "conv 1x8x9x9>1x8x9x9 k3x3 s1x1 p1,1,1,1 d1x1 g1 float32"),
        (CONV, "conv 1x8x8x8>1x8x8x8 k1x1 s1x1 p0,0,0,0 d1x1 g1 float32"),
        (CONV, "conv 1x8x8x8>1x8x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 +add float32"),
        ("linear 1x8>1x8 float32", "linear 1x8>1x8 relu float32"),
        ("linear 1x8>1x8 float32", "linear 1x8>1x8 float16"),
        ("add 1x8x4x4,1x8x4x4>1x8x4x4 float32", "mul 1x8x4x4,1x8x4x4>1x8x4x4 float32"),
        ("mul 1x8x4x4,1x8x4x4>1x8x4x4 float32", "mul 1x8x4x4,1x8x1x1>1x8x4x4 float32"),
    ],
)  # fmt: skip
def test_anything_else_that_differs_is_another_geometry(left: str, right: str) -> None:
    assert geometry(Layer.parse(left)) != geometry(Layer.parse(right))
