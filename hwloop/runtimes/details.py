"""What `Layer.detail` says, in numbers that every file format needs. Axes are those of the layer: NCHW."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwloop.layers import Layer
from hwloop.layers.ops import channel_axis
from hwloop.runtimes.seeding import Array


def details(layer: Layer) -> dict[str, str]:
    """`Layer.detail` as names and values: "axes=2 starts=0 steps=2"."""
    return dict(part.split("=", 1) for part in layer.detail.split()) if layer.detail else {}


def integers(text: str) -> list[int]:
    """Read "1,2,3"."""
    return [int(value) for value in text.split(",")]


def operand(layer: Layer) -> Array:
    """The constant of an elementwise layer with one input; 1.5 everywhere, since values do not change the work."""
    kind = details(layer).get("const", "scalar")
    shape = layer.output_shape
    if kind == "scalar":
        shape = ()
    elif kind == "channel":
        axis = channel_axis(layer.output_shape)
        shape = tuple(size if at == axis else 1 for at, size in enumerate(layer.output_shape))
    elif kind != "full":
        shape = tuple(int(size) for size in kind.split("x"))
    return np.full(shape, 1.5, np.float32)


def concat_operands(layer: Layer) -> tuple[int, list[int | Array]]:
    """The axis of a concatenation, and its operands in order: the index of an input, or a constant of 1.5."""
    found = details(layer)
    constants = dict(part.split(":") for part in found["const"].split(",")) if "const" in found else {}
    waiting = iter(range(len(layer.input_shapes)))
    operands: list[int | Array] = []
    for position in range(len(layer.input_shapes) + len(constants)):
        shape = constants.get(str(position))
        if shape is None:
            operands.append(next(waiting))
        else:
            operands.append(np.full([int(size) for size in shape.split("x")], 1.5, np.float32))
    return int(found["axis"]), operands


@dataclass(frozen=True)
class Cut:
    """What a slice keeps of one axis: `start`, `start + step`, … before `end`; `end` is -1 for "down to the first"."""

    axis: int
    start: int
    end: int
    step: int


def cuts(layer: Layer) -> list[Cut]:
    """The axes that a slice cuts."""
    found = details(layer)
    axes, starts, steps = (integers(found[name]) for name in ("axes", "starts", "steps"))
    return [
        Cut(axis, start, start + step * (layer.output_shape[axis] - 1) + (1 if step > 0 else -1), step)
        for axis, start, step in zip(axes, starts, steps, strict=True)
    ]
