"""What a layer's latency depends on, as numbers that mean something to the hardware.

Everything is computed for n pairs of widths of one geometry at once. A *block* is the device's grain: blocked kernels
compute whole blocks of channels, so the work that is done is that of the padded widths, while the bytes that are moved
are those of the real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwloop.layers import ITEM_BYTES, Layer
from hwloop.layers.ops import OPS
from hwloop.tables.costs import TIED_RULES

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def is_tied(layer: Layer) -> bool:
    """Whether the output width follows from the input width: there is one axis of widths then."""
    return layer.depthwise or OPS[layer.op].width in TIED_RULES


def family(layer: Layer) -> str:
    """The kind of kernel that executes a layer; layers of one family share what cannot be learned from one geometry."""
    if layer.op != "conv":
        return layer.op if layer.op in ("linear", "matmul") else "other"
    if layer.depthwise:
        return "depthwise"
    return "pointwise" if layer.kernel == (1, 1) else "conv"


def padded(widths: IntArray, grain: int) -> FloatArray:
    """Widths rounded up to whole blocks."""
    return np.asarray(-(-widths // grain) * grain, dtype=np.float64)


@dataclass(frozen=True)
class LayerWork:
    """What n layers of one geometry do.

    Attributes:
        macs: (n,) multiply-accumulates of the padded widths; 0 for layers that only move data.
        bytes: (n,) inputs, residual, weights and output, each once.
    """

    macs: FloatArray
    bytes: FloatArray


def work_of(layer: Layer, inputs: IntArray, outputs: IntArray, grain: int) -> LayerWork:
    """The work of layers that share `layer`'s geometry at (n,) input and output widths."""
    item = ITEM_BYTES[layer.dtype]
    ins, outs = inputs.astype(np.float64), outputs.astype(np.float64)
    pixels_in = sum(math.prod(shape) for shape in layer.input_shapes) / max(layer.in_channels, 1)
    pixels_out = math.prod(layer.output_shape) / max(layer.out_channels, 1)
    kernel = math.prod(layer.kernel)
    moved = pixels_in * ins + pixels_out * outs * (2 if layer.residual else 1) + layer.vectors * outs
    macs = np.zeros(len(ins))
    if layer.depthwise:
        moved = moved + kernel * outs
        macs = kernel * pixels_out * padded(outputs, grain)
    elif layer.op == "conv":
        moved = moved + kernel * ins * outs / layer.groups
        macs = kernel * pixels_out * padded(inputs, grain) * padded(outputs, grain) / layer.groups
    elif layer.op == "linear":
        moved = moved + ins * outs
        macs = math.prod(layer.output_shape[:-1]) * padded(inputs, grain) * padded(outputs, grain)
    elif layer.op == "matmul":
        macs = np.full(len(ins), float(layer.macs))
    if OPS[layer.op].view:
        moved = np.zeros(len(ins))
    return LayerWork(macs, moved * item)


def width_axes(layer: Layer, inputs: IntArray, outputs: IntArray, grain: int) -> FloatArray:
    """(n, d) logarithms of the widths, real ones first, then padded ones: where layers are near to each other."""
    axes = [inputs] if is_tied(layer) else [inputs, outputs]
    return np.log(np.stack([*(axis.astype(np.float64) for axis in axes), *(padded(axis, grain) for axis in axes)], 1))


def cost_terms(layer: Layer, inputs: IntArray, outputs: IntArray, grain: int) -> FloatArray:
    """(n, k) terms whose non-negative combinations are the shapes that a latency can have over the widths.

    A constant (dispatch), data in and out (bytes), and the work with padded outputs, with padded both, and unpadded.
    """
    ins, outs = inputs.astype(np.float64), outputs.astype(np.float64)
    blocks_in, blocks_out = padded(inputs, grain), padded(outputs, grain)
    one = np.ones(len(ins))
    if is_tied(layer):
        return np.stack([one, ins, blocks_in], axis=1)
    return np.stack([one, ins, outs, ins * outs, ins * blocks_out, blocks_in * blocks_out], axis=1)
