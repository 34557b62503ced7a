"""The operations that a `Layer` can be, and how each one treats the number of channels.

An operation is what a runtime executes as one kernel. Attributes that change the amount of work and that have no
field in `Layer` (the axis of a concat, the permutation of a transpose) are written into `Layer.detail`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

WidthRule = Literal["set", "same", "equal", "sum", "reshape", "slice", "pad", "fixed"]
"""How an operation's output channels follow from its inputs' channels.

- ``set``: it has weights and decides itself (a depthwise convolution follows its input);
- ``same``: as the first input;
- ``equal``: all inputs agree, apart from those that broadcast a single channel;
- ``sum``: concatenation;
- ``reshape``: kept, or multiplied by the pixels that are folded into the features;
- ``slice``: kept while only other axes are cut;
- ``pad``: a constant is added;
- ``fixed``: not known; the operation can be measured, but not resized.
"""


@dataclass(frozen=True)
class Op:
    """What all layers of one operation have in common.

    Attributes:
        name: the operation's name in `Layer.op` and in keys.
        inputs: fewest and most data inputs.
        width: see `WidthRule`.
        geometry: whether kernel, stride, padding and dilation mean something.
        fuses: whether an activation can be fused behind it.
        view: whether it only gives the same memory another shape.
    """

    name: str
    inputs: tuple[int, int]
    width: WidthRule
    geometry: bool = False
    fuses: bool = False
    view: bool = False


ANY_NUMBER = 1_000_000

ACTIVATIONS: tuple[str, ...] = (
    "relu",
    "relu6",
    "clip",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "sigmoid",
    "hard_sigmoid",
    "hard_swish",
    "silu",
    "tanh",
    "gelu",
    "softplus",
)
"""Activations, standalone (`Layer.op`) or fused (`Layer.activation`); slopes and bounds do not change the work."""

_OPS = (
    Op("conv", (1, 1), "set", geometry=True, fuses=True),
    Op("linear", (1, 1), "set", fuses=True),
    Op("matmul", (2, 2), "fixed", fuses=True),
    Op("max_pool", (1, 1), "same", geometry=True, fuses=True),
    Op("avg_pool", (1, 1), "same", geometry=True, fuses=True),
    Op("global_avg_pool", (1, 1), "same"),
    Op("global_max_pool", (1, 1), "same"),
    Op("add", (1, 2), "equal", fuses=True),
    Op("sub", (1, 2), "equal", fuses=True),
    Op("mul", (1, 2), "equal", fuses=True),
    Op("div", (1, 2), "equal", fuses=True),
    Op("concat", (1, ANY_NUMBER), "sum", fuses=True),
    Op("batch_norm", (1, 1), "same", fuses=True),
    Op("layer_norm", (1, 1), "same"),
    Op("softmax", (1, 1), "same"),
    Op("log_softmax", (1, 1), "same"),
    Op("reduce_mean", (1, 1), "fixed"),
    Op("flatten", (1, 1), "reshape", view=True),
    Op("reshape", (1, 1), "reshape", view=True),
    Op("transpose", (1, 1), "fixed"),
    Op("slice", (1, 1), "slice"),
    Op("pad", (1, 1), "pad"),
    Op("resize", (1, 1), "same"),
    Op("unsupported", (0, ANY_NUMBER), "fixed"),
    *(Op(name, (1, 1), "same") for name in ACTIVATIONS),
)

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _OPS})
"""Every operation by name."""

ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "float64": 8,
        "float32": 4,
        "float16": 2,
        "bfloat16": 2,
        "int64": 8,
        "int32": 4,
        "int16": 2,
        "int8": 1,
        "uint8": 1,
        "bool": 1,
    }
)
"""Bytes of one element by data type."""


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of a tensor that holds channels or features.

    Args:
        shape: NCHW, (batch, features), or (batch, tokens, features).

    Returns:
        1 for images and rows of features, 2 for token sequences (rank 3), None for scalars and vectors.
    """
    rank = len(shape)
    if rank < 2:
        return None
    return 2 if rank == 3 else 1
