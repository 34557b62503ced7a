"""The layers that every runtime is tried with: each operation and activation at least once, and the shapes that
networks have.
"""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

from hwloop.layers import ACTIVATIONS, Layer

LAYERS = [
    "conv 1x3x16x16>1x16x16x16 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
    "conv 1x16x16x16>1x32x8x8 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32",
    "conv 1x13x9x7>1x11x9x7 k3x3 s1x1 p1,1,1,1 d1x1 g1 relu +add float32",
    "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g16 bias relu6 float32",
    "conv 1x16x8x8>1x32x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g4 bias float32",
    "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p2,2,2,2 d2x2 g1 float32",
    "conv 1x64x1x1>1x4x1x1 k1x1 s1x1 p0,0,0,0 d1x1 g1 relu float32",
    "conv 1x1x1x1>1x1x1x1 k1x1 s1x1 p0,0,0,0 d1x1 g1 relu float32",
    "conv 1x512x4x4>1x512x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
    "linear 1x400>1x120 bias relu float32",
    "linear 1x400>1x120 float32",
    "linear 1x400>1x120 relu +add float32",
    "linear 1x400>1x120 bias relu +add float32",
    "linear 1x7x32>1x7x16 bias float32",
    "linear 1x4096>1x1 relu float32",
    "matmul 1x4x7x16,1x4x16x7>1x4x7x7 float32",
    "max_pool 1x16x9x9>1x16x4x4 k3x3 s2x2 p0,0,0,0 d1x1 float32",
    "max_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p0,0,0,0 d1x1 float32",
    "max_pool 1x16x9x9>1x16x5x5 k3x3 s1x1 p0,0,0,0 d2x2 relu float32",
    "avg_pool 1x16x8x8>1x16x1x1 k8x8 s8x8 p0,0,0,0 d1x1 float32",
    "avg_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,0,0 d1x1 float32",
    "global_avg_pool 1x16x8x8>1x16x1x1 float32",
    'global_avg_pool 1x16x8x8>1x16 float32 detail="reduce"',
    'global_avg_pool 1x16x8x8>1x16x1x1 float32 detail="reduce"',
    "global_max_pool 1x16x8x8>1x16x1x1 float32",
    "add 1x16x8x8,1x16x8x8>1x16x8x8 relu float32",
    'add 1x16x8x8>1x16x8x8 float32 detail="const=channel"',
    "sub 1x16x8x8,1x16x8x8>1x16x8x8 float32",
    'sub 1x16x8x8>1x16x8x8 float32 detail="const=full"',
    "mul 1x16x8x8,1x16x1x1>1x16x8x8 float32",
    'mul 1x16x8x8>1x16x8x8 float32 detail="const=scalar"',
    "div 1x16x8x8,1x16x8x8>1x16x8x8 float32",
    "div 1x16x8x8,1x16x1x1>1x16x8x8 float32",
    'div 1x16x8x8>1x16x8x8 float32 detail="const=1x1x8x8"',
    'concat 1x16x8x8,1x8x8x8>1x24x8x8 float32 detail="axis=1"',
    'concat 1x16x8x8,1x16x8x8,1x16x8x8>1x16x24x8 float32 detail="axis=2"',
    "batch_norm 1x16x8x8>1x16x8x8 relu float32",
    "batch_norm 1x16>1x16 float32",
    "layer_norm 1x7x32>1x7x32 float32",
    'softmax 1x10>1x10 float32 detail="axis=1"',
    'log_softmax 1x10>1x10 float32 detail="axis=1"',
    'reduce_mean 1x7x32>1x32 float32 detail="axes=1"',
    'reduce_mean 1x7x32>1x1x32 float32 detail="axes=1"',
    "flatten 1x16x4x4>1x256 float32",
    "reshape 1x16x4x4>1x4x4x4x4 float32",
    'transpose 1x16x4x5>1x4x5x16 float32 detail="perm=0,2,3,1"',
    'slice 1x16x8x8>1x16x4x8 float32 detail="axes=2 starts=0 steps=2"',
    'slice 1x16x8x8>1x8x8x8 float32 detail="axes=1,2 starts=8,7 steps=1,-1"',
    'pad 1x16x8x8>1x32x8x8 float32 detail="pads=0,8,0,0,0,8,0,0 mode=constant"',
    'pad 1x16x8x8>1x16x10x10 float32 detail="pads=0,0,1,1,0,0,1,1 mode=reflect"',
    'resize 1x16x8x8>1x16x16x16 float32 detail="mode=nearest"',
    'resize 1x16x8x8>1x16x16x16 float32 detail="mode=linear"',
    *(f"{activation} 1x16x8x8>1x16x8x8 float32" for activation in ACTIVATIONS),
    *(f"{activation} 1x16>1x16 float32" for activation in ACTIVATIONS),
    *(f"conv 1x16x8x8>1x16x8x8 k1x1 s1x1 p0,0,0,0 d1x1 g1 bias {activation} float32" for activation in ACTIVATIONS),
]


REFUSED: dict[str, dict[str, str]] = {
    "onnxruntime": {},
    "litert": {"selu": "no operator for selu", "softplus": "no operator for softplus", " d2x2 relu": "no dilated pool"},
    "torch": {},
    "tvm": {},
}
"""What a runtime cannot do of `LAYERS`: a part of the layer's key, and of the reason that the runtime gives."""


def refusal(name: str, key: str) -> str:
    """Why a runtime refuses a layer of `LAYERS`; "" when it does not."""
    return next((reason for part, reason in REFUSED[name].items() if part in key), "")


@st.composite
def convolutions(draw_from):
    groups = draw_from(st.sampled_from([1, 1, 2, "depthwise"]))
    inner, outer = draw_from(st.integers(1, 24)), draw_from(st.integers(1, 24))
    if groups == "depthwise":
        groups, outer = inner, inner
    elif groups == 2:
        inner, outer = 2 * inner, 2 * outer
    kernel = (draw_from(st.integers(1, 5)), draw_from(st.integers(1, 5)))
    stride = (draw_from(st.integers(1, 3)), draw_from(st.integers(1, 3)))
    dilation = (draw_from(st.integers(1, 2)), draw_from(st.integers(1, 2)))
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw_from(st.integers(0, kernel[axis % 2] // 2)) for axis in range(4))
    size = [draw_from(st.integers(max(1, span[axis] - padding[axis] - padding[axis + 2]), 14)) for axis in (0, 1)]
    output = [(size[at] + padding[at] + padding[at + 2] - span[at]) // stride[at] + 1 for at in (0, 1)]
    # Otherwise a kernel can see nothing but padding, and an output that is exactly 0 is no sane number.
    assume(
        all(
            any(
                0 <= place * stride[at] - padding[at] + tap * dilation[at] < size[at]
                for place in range(output[at])
                for tap in range(kernel[at])
            )
            for at in (0, 1)
        )
    )
    return Layer(
        "conv",
        ((1, inner, *size),),
        (1, outer, *output),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        draw_from(st.booleans()),
        draw_from(st.sampled_from(["", "relu", "relu6", "hard_swish", "sigmoid", "tanh", "silu"])),
        draw_from(st.booleans()),
    )
