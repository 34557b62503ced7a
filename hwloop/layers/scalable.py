"""Shapes, sizes and work of thousands of pruned candidates of one network at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import ModelError
from hwloop.layers.blocks import Alternative, Block, BoolArray, Variants
from hwloop.layers.layer import Layer, channels_of, features_are_channels
from hwloop.layers.liveness import last_uses, peak_of_intervals
from hwloop.layers.network import Network
from hwloop.layers.ops import ITEM_BYTES
from hwloop.layers.widths import propagate

IntArray = NDArray[np.int64]


class ScalableNetwork:
    """A network whose node widths are affine in the group widths, and whose blocks may be left out.

    Channels of every tensor are one matrix product away from the group widths; bytes are products of channels with
    constants, weights and MACs products of input and output channels, summed over the nodes that a candidate
    executes. All results are exact integers: the products run in float64, where integers below 2**53 are exact.

    Candidates come as (n, G) widths and, optionally, (n, B) flags of the blocks that remain; without flags all do.

    Attributes:
        network: the network at its base widths, with all blocks.
        groups: names of the nodes of each group.
        base_widths: (G,) widths of the groups in `network`.
        blocks: that may be left out.
        alternatives: what is executed in the place of some nodes then.
        nodes: the L nodes that candidates are made of: those of `network`, then those of the alternatives.
    """

    def __init__(
        self,
        network: Network,
        groups: Sequence[Collection[str]],
        blocks: Sequence[Block] = (),
        alternatives: Sequence[Alternative] = (),
    ) -> None:
        """Prepare the coefficients; everything that does not depend on the candidates is done here.

        Args:
            network: the network at its base widths.
            groups: `groups[g]` holds the names of the convolution and linear nodes whose output channels are group
                g. A name stands for all nodes of that module ("conv", "conv#2"), and may be in one group only; nodes in
                no group keep their width.
            blocks: what may be left out.
            alternatives: what stands in for nodes when blocks are left out.

        Raises:
            ModelError: a name is unknown, in two groups, or the groups leave two tensors that meet with widths that
                can differ (a residual sum whose operands are in different groups; a block and its replacement).
        """
        self.network = network
        self.groups = tuple(_with_repetitions(network, group) for group in groups)
        self.base_widths: IntArray = np.array([_base_width(network, group) for group in self.groups], np.int64)
        self._variants = Variants(network, blocks, alternatives)
        self.blocks, self.alternatives = self._variants.blocks, self._variants.alternatives
        self.nodes = self._variants.nodes
        columns = len(self.groups) + 1
        decided: dict[str, IntArray] = {}
        for index, group in enumerate(self.groups):
            for name in group:
                if name in decided:
                    raise ModelError(f"{name} is in two channel groups")
                decided[name] = np.eye(columns, dtype=np.int64)[index + 1]
        self._decided = decided
        tensors = self._tensor_rows(columns)
        layers, offset = self.layers, len(network.input_shapes)
        self._out = tensors[self._variants.tensors]
        self._in = np.zeros((len(layers), columns), np.int64)
        for index, (layer, reads) in enumerate(zip(layers, self._variants.reads, strict=True)):
            data = reads[: len(layer.input_shapes)]
            for tensor in data if layer.op == "concat" else data[:1]:
                self._in[index] += tensors[tensor]
            if layer.op == "linear" and not features_are_channels(layer):
                self._in[index], self._out[index] = np.zeros((2, columns), np.int64)
                self._in[index, 0], self._out[index, 0] = layer.in_channels, layer.out_channels

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
        self._fixed_macs = np.array([layer.macs if layer.op not in _WEIGHTED else 0 for layer in layers], np.int64)
        self._item_bytes = np.array([ITEM_BYTES[layer.dtype] for layer in layers], np.int64)

        # Of the network's inputs, then of what each node makes.
        made = np.concatenate([np.arange(offset), self._variants.tensors])
        shapes = [*network.input_shapes, *(layer.output_shape for layer in layers)]
        dtypes = [*network.tensor_dtypes()[:offset], *(layer.dtype for layer in layers)]
        self._bytes = np.zeros((len(made), columns), np.int64)
        for index, (tensor, shape, dtype) in enumerate(zip(made, shapes, dtypes, strict=True)):
            elements = math.prod(shape) * ITEM_BYTES[dtype]
            channels = channels_of(shape)
            if channels:
                self._bytes[index] = tensors[tensor] * (elements // channels)
            else:  # scalars and vectors have no channels
                self._bytes[index, 0] = elements

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of `nodes`, at base widths."""
        return tuple(node.layer for node in self.nodes)

    def channels(self, widths: ArrayLike) -> tuple[IntArray, IntArray]:
        """Input and output channels of every layer, as `Layer.in_channels` and `Layer.out_channels` count them.

        They do not depend on which blocks remain; `present` tells which of the layers a candidate executes.

        Args:
            widths: (n, G) group widths.

        Returns:
            Two (n, L) arrays.

        Raises:
            ModelError: `widths` has the wrong shape, a width below 1, or one that a grouped convolution cannot have.
        """
        return self._channels(self._checked(widths))

    def present(self, blocks: ArrayLike | None = None) -> BoolArray:
        """Which layers candidates execute.

        Args:
            blocks: (n, B) flags, true for each block that remains; None for the one candidate with all of them.

        Returns:
            (n, L) flags, (1, L) for None. The alternatives' are false where all blocks remain.

        Raises:
            ModelError: `blocks` has the wrong shape.
        """
        count = 1 if blocks is None else len(np.asarray(blocks))
        return self._variants.present(self._variants.checked(blocks, count))

    def macs(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        """(n,) multiply-accumulates of (n, G) widths and (n, B) blocks; raises as `channels` and `present`."""
        return self._work(widths, blocks, self._pair_macs, self._single_macs, self._fixed_macs)

    def parameters(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        """(n,) constants as executed of (n, G) widths and (n, B) blocks; raises as `channels` and `present`."""
        return self._work(widths, blocks, self._pair_weights, self._single_weights, np.zeros_like(self._fixed_macs))

    def weight_bytes(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        """(n,) bytes of the constants of (n, G) widths and (n, B) blocks; raises as `channels` and `present`."""
        sizes = self._item_bytes
        pair, single = self._pair_weights * sizes, self._single_weights * sizes
        return self._work(widths, blocks, pair, single, np.zeros_like(self._fixed_macs))

    def peak_activation_bytes(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        """(n,) peak of live tensors of (n, G) widths and (n, B) blocks, as `Network.peak_activation_bytes`.

        Raises as `channels` and `present`.
        """
        affine = self._checked(widths)
        count, offset = len(affine), len(self.network.input_shapes)
        # Candidates with the same blocks have the same lifetimes.
        remains = self._variants.checked(blocks, 1 if blocks is None else count)
        patterns, which = np.unique(remains, axis=0, return_inverse=True)
        which = np.broadcast_to(which.reshape(-1), count)
        present = self._variants.present(patterns)
        ends = last_uses(self._variants, present, patterns)
        made = np.concatenate([np.arange(offset), self._variants.tensors])
        # A network input that nobody reads takes no memory.
        exists = np.concatenate([ends[:, :offset] >= 0, present], axis=1)
        born = np.concatenate([np.zeros(offset, np.int64), self._variants.steps])
        sizes = (affine @ self._bytes.T.astype(np.float64)) * exists[which]
        return peak_of_intervals(born, ends[:, made][which], sizes, len(self.nodes))

    def at(self, widths: Sequence[int], blocks: Sequence[bool] | None = None) -> Network:
        """The network of one candidate's (G,) widths and (B,) blocks, layers and all.

        Raises:
            ModelError: the wrong number of widths or blocks, or widths that the network cannot have.
        """
        if len(widths) != len(self.groups):
            raise ModelError(f"{len(widths)} widths for {len(self.groups)} channel groups")
        remains = self._variants.checked(None if blocks is None else [blocks], 1)[0]
        network = self._variants.at(remains.tolist())
        wanted = {name: int(width) for group, width in zip(self.groups, widths, strict=True) for name in group}
        names = {node.name for node in network.nodes}
        return network.resized({name: width for name, width in wanted.items() if name in names})

    def removed_for(self, column: int) -> frozenset[str]:
        """Names of the blocks that must all be left out before `nodes[column]` is executed; none for most nodes."""
        return self._variants.removed_for(column)

    def _tensor_rows(self, columns: int) -> IntArray:
        """Widths of every tensor as affine forms, also of those that only alternatives make."""
        rows = np.zeros((self._variants.count, columns), np.int64)
        base = propagate(self.network, self._decided, columns)
        rows[: len(base)] = base
        for block, (output, replacement) in zip(self.blocks, self._variants.rerouted, strict=True):
            if not np.array_equal(rows[output], rows[replacement]):
                raise ModelError(
                    f"block {block.name} cannot be left out: {self.network.tensor_name(block.output)} and "
                    f"{self.network.tensor_name(block.replacement)}, which replaces it, would have different widths"
                )
        offset = len(self.network.input_shapes)
        for number, alternative in enumerate(self.alternatives):
            variant = self._variants.without(alternative.removed)
            names = {node.name: place for place, node in enumerate(variant.nodes)}
            found = propagate(variant, {name: row for name, row in self._decided.items() if name in names}, columns)
            for column in self._variants.columns_of(number):
                if self.nodes[column].name in names:
                    rows[self._variants.tensors[column]] = found[offset + names[self.nodes[column].name]]
        return rows

    def _work(
        self, widths: ArrayLike, blocks: ArrayLike | None, pair: IntArray, single: IntArray, fixed: IntArray
    ) -> IntArray:
        """Sum over the executed layers of in/groups * out * pair + out * single + fixed."""
        ins, outs = self._channels(self._checked(widths))
        executed = self._variants.present(self._variants.checked(blocks, 1 if blocks is None else len(ins)))
        each = outs.astype(np.float64) * executed
        total: NDArray[np.float64] = each @ single.astype(np.float64)
        total += ((ins // self._groups) * each) @ pair.astype(np.float64)
        total += executed.astype(np.float64) @ fixed.astype(np.float64)
        return total.astype(np.int64)

    def _channels(self, affine: NDArray[np.float64]) -> tuple[IntArray, IntArray]:
        ins = (affine @ self._in.T.astype(np.float64)).astype(np.int64)
        outs = (affine @ self._out.T.astype(np.float64)).astype(np.int64)
        for index in np.flatnonzero(self._groups > 1):
            if (ins[:, index] % self._groups[index]).any() or (outs[:, index] % self._groups[index]).any():
                name = self.nodes[index].name
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


def _with_repetitions(network: Network, group: Collection[str]) -> tuple[str, ...]:
    """The names of a group, and of the other nodes that execute the same modules."""
    wanted = set(group)
    again = [node.name for node in network.nodes if node.name not in wanted and node.name.split("#")[0] in wanted]
    return (*group, *again)


def _base_width(network: Network, group: Collection[str]) -> int:
    widths = {node.name: node.layer.out_channels for node in network.nodes if node.name in group}
    missing = [name for name in group if name not in widths]
    if missing or not widths:
        raise ModelError(f"channel group {sorted(group)} names nodes that the network does not have: {missing}")
    if len(set(widths.values())) > 1:
        raise ModelError(f"the nodes of one channel group have different widths: {widths}")
    return next(iter(widths.values()))
