"""Shapes, sizes and work of thousands of pruned candidates of one network at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import ModelError
from hwloop.layers.liveness import live_tensors
from hwloop.layers.network import Network
from hwloop.layers.ops import ITEM_BYTES
from hwloop.layers.widths import propagate

IntArray = NDArray[np.int64]


class ScalableNetwork:
    """A network whose node widths are affine in the group widths.

    Channels of every tensor are one matrix product away from the group widths; bytes are products of channels with
    constants, weights and MACs products of input and output channels. All results are exact integers: the products
    run in float64, where integers below 2**53 are exact.

    Attributes:
        network: the network at its base widths.
        groups: names of the nodes of each group.
        base_widths: (G,) widths of the groups in `network`.
    """

    def __init__(self, network: Network, groups: Sequence[Collection[str]]) -> None:
        """Prepare the coefficients; everything that does not depend on the widths is done here.

        Args:
            network: the network at its base widths.
            groups: `groups[g]` holds the names of the convolution and linear nodes whose output channels are group
                g. A name may be in one group only; nodes in no group keep their width.

        Raises:
            ModelError: a name is unknown, in two groups, or the groups leave two tensors that meet with widths that
                can differ (a residual sum whose operands are in different groups).
        """
        self.network = network
        self.groups = tuple(tuple(group) for group in groups)
        self.base_widths: IntArray = np.array([_base_width(network, group) for group in self.groups], np.int64)
        columns = len(self.groups) + 1
        decided: dict[str, IntArray] = {}
        for index, group in enumerate(self.groups):
            for name in group:
                if name in decided:
                    raise ModelError(f"{name} is in two channel groups")
                decided[name] = np.eye(columns, dtype=np.int64)[index + 1]
        tensors = propagate(network, decided, columns)
        layers, offset = network.layers, len(network.input_shapes)
        self._out = tensors[offset:]
        self._in = np.zeros((len(layers), columns), np.int64)
        for index, node in enumerate(network.nodes):
            data = node.inputs[: len(node.layer.input_shapes)]
            taken = data if node.layer.op == "concat" else data[:1]
            for source in taken:
                self._in[index] += tensors[offset + source if source >= 0 else -1 - source]

        # MACs and weights go with in/groups * out, but only with out for vectors and for depthwise convolutions,
        # which always have one input channel per group.
        self._groups = np.array([1 if layer.depthwise else layer.groups for layer in layers], np.int64)
        kernels = np.array([math.prod(layer.kernel) if layer.op in _WEIGHTED else 0 for layer in layers], np.int64)
        pixels = np.array([math.prod(layer.output_shape) // max(layer.out_channels, 1) for layer in layers], np.int64)
        depthwise = np.array([layer.depthwise for layer in layers], bool)
        vectors = np.array([layer.vectors for layer in layers], np.int64)
        self._pair_weights = np.where(depthwise, 0, kernels)
        self._pair_macs = self._pair_weights * pixels
        self._single_weights = np.where(depthwise, kernels, 0) + vectors
        self._single_macs = np.where(depthwise, kernels, 0) * pixels
        self._fixed_macs = sum(layer.macs for layer in layers if layer.op not in _WEIGHTED)
        self._item_bytes = np.array([ITEM_BYTES[layer.dtype] for layer in layers], np.int64)

        shapes = [*network.input_shapes, *(layer.output_shape for layer in layers)]
        tensor_bytes = np.zeros_like(tensors)
        for index, (shape, dtype) in enumerate(zip(shapes, network.tensor_dtypes(), strict=True)):
            elements = math.prod(shape) * ITEM_BYTES[dtype]
            channels = int(tensors[index] @ np.array([1, *self.base_widths]))
            if channels:
                tensor_bytes[index] = tensors[index] * (elements // channels)
            else:  # scalars and vectors have no channels
                tensor_bytes[index, 0] = elements
        self._live_bytes = np.unique(live_tensors(network) @ tensor_bytes, axis=0)

    def channels(self, widths: ArrayLike) -> tuple[IntArray, IntArray]:
        """Input and output channels of every layer, as `Layer.in_channels` and `Layer.out_channels` count them.

        Args:
            widths: (n, G) group widths.

        Returns:
            Two (n, L) arrays.

        Raises:
            ModelError: `widths` has the wrong shape, a width below 1, or one that a grouped convolution cannot have.
        """
        return self._channels(self._checked(widths))

    def macs(self, widths: ArrayLike) -> IntArray:
        """(n,) multiply-accumulates of (n, G) widths; raises as `channels`."""
        return self._work(widths, self._pair_macs, self._single_macs) + self._fixed_macs

    def parameters(self, widths: ArrayLike) -> IntArray:
        """(n,) constants as executed of (n, G) widths; raises as `channels`."""
        return self._work(widths, self._pair_weights, self._single_weights)

    def weight_bytes(self, widths: ArrayLike) -> IntArray:
        """(n,) bytes of the constants of (n, G) widths; raises as `channels`."""
        sizes = self._item_bytes
        return self._work(widths, self._pair_weights * sizes, self._single_weights * sizes)

    def peak_activation_bytes(self, widths: ArrayLike) -> IntArray:
        """(n,) peak of live tensors of (n, G) widths, as `Network.peak_activation_bytes`; raises as `channels`."""
        affine = self._checked(widths)
        if not self.network.nodes:
            return np.zeros(len(affine), np.int64)
        live = affine @ self._live_bytes.T.astype(np.float64)
        peak: IntArray = live.max(axis=1).astype(np.int64)
        return peak

    def at(self, widths: Sequence[int]) -> Network:
        """The network at one candidate's (G,) widths, layers and all."""
        if len(widths) != len(self.groups):
            raise ModelError(f"{len(widths)} widths for {len(self.groups)} channel groups")
        return self.network.resized(
            {name: int(width) for group, width in zip(self.groups, widths, strict=True) for name in group}
        )

    def _work(self, widths: ArrayLike, pair: IntArray, single: IntArray) -> IntArray:
        """Sum over the layers of in/groups * out * pair + out * single."""
        ins, outs = self._channels(self._checked(widths))
        each = outs.astype(np.float64)
        total: NDArray[np.float64] = each @ single.astype(np.float64)
        total += ((ins // self._groups) * each) @ pair.astype(np.float64)
        return total.astype(np.int64)

    def _channels(self, affine: NDArray[np.float64]) -> tuple[IntArray, IntArray]:
        ins = (affine @ self._in.T.astype(np.float64)).astype(np.int64)
        outs = (affine @ self._out.T.astype(np.float64)).astype(np.int64)
        for index in np.flatnonzero(self._groups > 1):
            if (ins[:, index] % self._groups[index]).any() or (outs[:, index] % self._groups[index]).any():
                name = self.network.nodes[index].name
                raise ModelError(f"{name}: its channels must be multiples of its {self._groups[index]} groups")
        return ins, outs

    def _checked(self, widths: ArrayLike) -> NDArray[np.float64]:
        """The widths behind a column of ones, in float64 (whose products run on BLAS)."""
        array = np.asarray(widths)
        if array.ndim != 2 or array.shape[1] != len(self.groups):
            raise ModelError(f"widths must have shape (n, {len(self.groups)}), got {array.shape}")
        if array.size and array.min() < 1:
            raise ModelError(f"a width must be at least 1, got {array.min()}")
        return np.column_stack([np.ones(len(array)), array.astype(np.float64)])


_WEIGHTED = ("conv", "linear")


def _base_width(network: Network, group: Collection[str]) -> int:
    widths = {node.name: node.layer.out_channels for node in network.nodes if node.name in group}
    missing = [name for name in group if name not in widths]
    if missing or not widths:
        raise ModelError(f"channel group {sorted(group)} names nodes that the network does not have: {missing}")
    if len(set(widths.values())) > 1:
        raise ModelError(f"the nodes of one channel group have different widths: {widths}")
    return next(iter(widths.values()))
