"""Blocks that a candidate may leave out: what vanishes with them, and what the runtime then executes differently."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import ModelError
from hwloop.layers.network import Network, Node

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """A part of a network that a candidate may leave out.

    Tensors are numbered as in `Node.inputs`: the index of the node that makes them, or -1 - k for the network's k-th
    input.

    Attributes:
        name: unique; of the module that is removed, where it is one ("layer1.1").
        vanishing: names of the nodes that are not executed without the block.
        output: the tensor that the block makes, of one of `vanishing` (or one that an `Alternative` makes then).
        replacement: what reads `output` reads this tensor instead, which has the same shape; `output` itself where an
            alternative still makes it.
    """

    name: str
    vanishing: tuple[str, ...]
    output: int
    replacement: int


@dataclass(frozen=True)
class Alternative:
    """What stands in for one node while certain blocks are removed, because the runtime then fuses differently.

    For example a projection shortcut that takes in the activation behind the sum that vanished, or a convolution
    whose residual is no longer in the layout that it can take in.

    Attributes:
        instead_of: name of the node that it stands in for. It does not come where that node vanishes with a removed
            block that is not among `removed`.
        removed: names of the blocks that must all be removed. Where two alternatives of a node apply, the one with
            more of them does.
        nodes: executed in the place of the node; the last makes the node's tensor. Inputs are numbered as in the base
            network; `len(network.nodes) + j` is what `nodes[j]` makes. None: nothing reads the node's tensor then.
    """

    instead_of: str
    removed: frozenset[str]
    nodes: tuple[Node, ...]


class Variants:
    """All nodes that any candidate executes, and which of them each one does.

    Attributes:
        network: with all blocks.
        blocks: in the order of the columns of `present`'s argument.
        alternatives: as given.
        nodes: the L nodes: those of `network`, then those of the alternatives.
        tensors: (L,) index of the tensor that each node makes: the network's inputs first, then one per node of
            `network`, then those that only alternatives make.
        reads: the tensors that each of `nodes` reads, residual last.
        steps: (L,) place of each node in the common schedule.
        rerouted: (output, replacement) of each block, as indices of tensors.
        count: number of tensors.
    """

    def __init__(self, network: Network, blocks: Sequence[Block], alternatives: Sequence[Alternative]) -> None:
        """Number nodes and tensors.

        Raises:
            ModelError: a block or alternative names what the network does not have, or a name is given twice.
        """
        self.network, self.blocks, self.alternatives = network, tuple(blocks), tuple(alternatives)
        self._index = {node.name: index for index, node in enumerate(network.nodes)}
        self._block_index = {block.name: index for index, block in enumerate(self.blocks)}
        self._check()
        offset, total = len(network.input_shapes), len(network.nodes)
        nodes, tensors = list(network.nodes), list(range(offset, offset + total))
        reads = [tuple(self._tensor(source) for source in node.inputs) for node in network.nodes]
        places: list[tuple[int, int, int]] = [(index, 0, 0) for index in range(total)]
        self._columns: list[range] = []  # of each alternative
        self.count = offset + total
        for number, alternative in enumerate(self.alternatives):
            at = self._index[alternative.instead_of]
            self._columns.append(range(len(nodes), len(nodes) + len(alternative.nodes)))
            private = range(self.count, self.count + max(0, len(alternative.nodes) - 1))
            made = (*private, offset + at)
            for position, node in enumerate(alternative.nodes):
                nodes.append(node)
                tensors.append(made[position])
                reads.append(
                    tuple(made[source - total] if source >= total else self._tensor(source) for source in node.inputs)
                )
                places.append((at, 1 + number, position))
            self.count += len(private)
        self.nodes: tuple[Node, ...] = tuple(nodes)
        self.tensors: NDArray[np.int64] = np.array(tensors, np.int64)
        self.reads = tuple(reads)
        rank = {place: step for step, place in enumerate(sorted(places))}
        self.steps: NDArray[np.int64] = np.array([rank[place] for place in places], np.int64)
        self.rerouted = tuple((self._tensor(block.output), self._tensor(block.replacement)) for block in self.blocks)
        self._vanishing = np.zeros((len(self.blocks), total), np.bool_)
        for row, block in enumerate(self.blocks):
            self._vanishing[row, [self._index[name] for name in block.vanishing]] = True

    def checked(self, blocks: ArrayLike | None, count: int) -> BoolArray:
        """The (count, B) flags of the blocks that remain; None: all do.

        Raises:
            ModelError: another shape.
        """
        shape = (count, len(self.blocks))
        if blocks is None:
            return np.ones(shape, np.bool_)
        array = np.asarray(blocks)
        if array.shape != shape or not (array.dtype == np.bool_ or np.isin(array, (0, 1)).all()):
            raise ModelError(f"blocks must be {shape} flags, one for each that remains, got shape {array.shape}")
        return array.astype(np.bool_)

    def present(self, remains: BoolArray) -> BoolArray:
        """(n, L): which nodes candidates execute whose blocks remain as (n, B) flags say."""
        removed = ~remains
        # float32 products run on BLAS, and count exactly
        gone = (removed.astype(np.float32) @ self._vanishing.astype(np.float32)) > 0
        present = np.zeros((len(remains), len(self.nodes)), np.bool_)
        present[:, : gone.shape[1]] = ~gone
        taken = np.zeros_like(gone)
        by_demand = sorted(range(len(self.alternatives)), key=lambda number: -len(self.alternatives[number].removed))
        for number in by_demand:
            alternative = self.alternatives[number]
            at = self._index[alternative.instead_of]
            needed = [self._block_index[name] for name in alternative.removed]
            others = [row for row in np.flatnonzero(self._vanishing[:, at]) if row not in needed]
            applies = removed[:, needed].all(axis=1) & ~removed[:, others].any(axis=1) & ~taken[:, at]
            columns = self._columns[number]
            present[applies, columns.start : columns.stop] = True
            present[applies, at] = False
            taken[:, at] |= applies
        return present

    def at(self, remains: Sequence[bool]) -> Network:
        """The network of base widths in which some blocks remain."""
        flags = np.asarray(remains, np.bool_)[None, :]
        columns = np.flatnonzero(self.present(flags)[0])
        columns = columns[np.argsort(self.steps[columns], kind="stable")]
        offset = len(self.network.input_shapes)
        index = {tensor: -1 - tensor for tensor in range(offset)}
        index |= {int(self.tensors[column]): place for place, column in enumerate(columns.tolist())}
        moved = {
            output: replacement
            for (output, replacement), remain in zip(self.rerouted, flags[0], strict=True)
            if not remain and output != replacement
        }

        def found(tensor: int) -> int:
            while tensor in moved:
                tensor = moved[tensor]
            if tensor not in index:
                raise ModelError(f"what {self._tensor_name(tensor)} makes is read without the block that it is in")
            return index[tensor]

        nodes = tuple(
            replace(self.nodes[column], inputs=tuple(found(tensor) for tensor in self.reads[column]))
            for column in columns.tolist()
        )
        outputs = tuple(found(self._tensor(source)) for source in self.network.outputs)
        return Network(nodes, self.network.input_shapes, outputs)

    def without(self, names: Collection[str]) -> Network:
        """The network of base widths without the blocks of these names."""
        return self.at([block.name not in names for block in self.blocks])

    def columns_of(self, number: int) -> range:
        """The columns of the nodes of alternative number `number`."""
        return self._columns[number]

    def removed_for(self, column: int) -> frozenset[str]:
        """The blocks without which the node of a column is executed: those of its alternative."""
        owners = zip(self.alternatives, self._columns, strict=True)
        return next((each.removed for each, columns in owners if column in columns), frozenset())

    def _tensor(self, source: int) -> int:
        return len(self.network.input_shapes) + source if source >= 0 else -1 - source

    def _tensor_name(self, tensor: int) -> str:
        source = tensor - len(self.network.input_shapes)
        return self.network.tensor_name(source) if source < len(self.network.nodes) else "an alternative"

    def _check(self) -> None:
        if len(self._block_index) < len(self.blocks):
            raise ModelError(f"two blocks have one name: {', '.join(block.name for block in self.blocks)}")
        for block in self.blocks:
            missing = [name for name in block.vanishing if name not in self._index]
            if missing:
                raise ModelError(f"block {block.name} has nodes that the network does not have: {', '.join(missing)}")
            for source in (block.output, block.replacement):
                if not -len(self.network.input_shapes) <= source < len(self.network.nodes):
                    raise ModelError(f"block {block.name} names tensor {source}, which does not exist")
            if self.network.tensor_shape(block.output) != self.network.tensor_shape(block.replacement):
                raise ModelError(
                    f"block {block.name} cannot be replaced: it makes {self.network.tensor_shape(block.output)}, "
                    f"{self.network.tensor_name(block.replacement)} {self.network.tensor_shape(block.replacement)}"
                )
        for alternative in self.alternatives:
            unknown = [name for name in alternative.removed if name not in self._block_index]
            if alternative.instead_of not in self._index or unknown:
                raise ModelError(
                    f"an alternative for {alternative.instead_of!r} without {', '.join(sorted(alternative.removed))} "
                    "does not fit the network and its blocks"
                )
