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


POOLS = frozenset({"max_pool", "avg_pool", "global_max_pool", "global_avg_pool"})


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
    pixels_in, pixels_out = _pixels(layer)
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


@dataclass(frozen=True)
class LayerTraffic:
    """Which tensors n layers of one geometry move.

    A layer that runs alone is handed plain tensors and hands plain ones back, so blocked kernels reorder both; within
    a network tensors stay in blocks between kernels that take them so. Which bytes are reordered where, and how
    awkwardly, is therefore what the sum of layers that ran alone gets wrong.

    Attributes:
        activations: (n,) bytes of inputs, residual and output.
        part_blocks: (n,) of these, the bytes of residuals and outputs of convolutions whose last block is not full.
        plain_reads: (n,) bytes of inputs that the kernel takes in the plain layout, so that a network that has them
            in blocks must reorder them: those of dense convolutions narrower than one block, and those of pools
            whose last block is not full. (So it is in onnxruntime's graph transformer to its blocked layout.)
    """

    activations: FloatArray
    part_blocks: FloatArray
    plain_reads: FloatArray


def traffic_of(layer: Layer, inputs: IntArray, outputs: IntArray, grain: int) -> LayerTraffic:
    """The traffic of layers that share `layer`'s geometry at (n,) input and output widths."""
    nothing = np.zeros(len(inputs))
    if OPS[layer.op].view:
        return LayerTraffic(nothing, nothing, nothing)
    pixels_in, pixels_out = _pixels(layer)
    item = ITEM_BYTES[layer.dtype]
    read, written = item * pixels_in * inputs, item * pixels_out * outputs * (2 if layer.residual else 1)
    part_blocks = plain_reads = nothing
    if layer.op == "conv":
        part_blocks = np.where(outputs % grain != 0, written, 0.0)
        if layer.groups == 1:
            plain_reads = np.where(inputs < grain, read, 0.0)
    elif layer.op in POOLS:
        plain_reads = np.where(inputs % grain != 0, read, 0.0)
    return LayerTraffic(read + written, part_blocks, plain_reads)


def _pixels(layer: Layer) -> tuple[float, float]:
    """Elements per channel of all inputs together, and of the output."""
    inputs = sum(math.prod(shape) for shape in layer.input_shapes) / max(layer.in_channels, 1)
    return inputs, math.prod(layer.output_shape) / max(layer.out_channels, 1)


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
