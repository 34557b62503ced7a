"""What a runtime executes when residual blocks of a network are left out."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hwloop.errors import ModelError
from hwloop.extraction.fusion import ONNXRUNTIME_X86, FusionRules, fuse
from hwloop.extraction.graph import Graph
from hwloop.extraction.network import assemble, units_of
from hwloop.extraction.residual import find_forks
from hwloop.extraction.unit import Unit
from hwloop.layers import Alternative, Block, Network, Node
from hwloop.layers.blocks import Variants

if TYPE_CHECKING:
    from torch import nn

PROBES = 8
"""So many random sets of removed blocks are fused again, to see that the alternatives stand for all of them."""


@dataclass(frozen=True)
class Branch:
    """A residual branch that can be left out of a network.

    Attributes:
        name: of the block.
        layers: torch module paths of the branch's convolutions and linear layers.
        drops_activation: whether a ReLU behind the sum goes as well.
    """

    name: str
    layers: frozenset[str]
    drops_activation: bool


@dataclass(frozen=True)
class BlockNetwork:
    """A network and what is executed without some of its blocks.

    Attributes:
        network: with all blocks.
        blocks: in the order of the branches that were asked for.
        alternatives: see `hwloop.layers.Alternative`.
    """

    network: Network
    blocks: tuple[Block, ...]
    alternatives: tuple[Alternative, ...]


def blocks_from_torch(
    module: nn.Module,
    input_shape: tuple[int, ...],
    branches: Sequence[Branch],
    *,
    rules: FusionRules = ONNXRUNTIME_X86,
) -> BlockNetwork:
    """The layers that a runtime executes for a torch module, with and without its residual blocks.

    Args:
        module: left as it was.
        input_shape: of one example, without the batch.
        branches: what may be left out, as `hwloop.pruning` finds it.
        rules: what the runtime fuses.

    Returns:
        The network of `network_from_torch` with blocks and alternatives for `hwloop.layers.ScalableNetwork`.

    Raises:
        ModelError: torch cannot export the module, or a branch is not found in what it exports.
    """
    from hwloop.extraction.export import export_onnx  # not above: an ONNX file is read without torch

    graph, units = units_of(export_onnx(module, input_shape, fold=False))
    return _Removal(graph, units, branches, rules).result()


class _Removal:
    """Leaves branches out of the unfused units, and compares what is fused then."""

    def __init__(self, graph: Graph, units: Sequence[Unit], branches: Sequence[Branch], rules: FusionRules) -> None:
        self._graph, self._units, self._rules = graph, units, rules
        self._cuts = _cuts(units, graph.outputs, branches)
        self._names = [branch.name for branch in branches]
        self._network, self._fused = self._executed(())
        self._made = {unit.output: at for at, unit in enumerate(self._fused)}

    def result(self) -> BlockNetwork:
        """The blocks one by one, then what differs where several are gone."""
        blocks: list[Block] = []
        alternatives: list[Alternative] = []
        for name in self._names:
            found, block = self._difference((name,))
            blocks.append(block)
            alternatives += found
        order = sorted(self._names, key=lambda name: self._cuts[name].at)
        for start in range(len(order)):
            for stop in range(start + 2, len(order) + 1):
                if self._agrees(blocks, alternatives, order[start:stop]):
                    break
                known = {(each.instead_of, each.nodes) for each in alternatives if each.removed < {*order[start:stop]}}
                found, both = self._difference(tuple(order[start:stop]))
                alternatives += [each for each in found if (each.instead_of, each.nodes) not in known]
                left = {name for block in blocks if block.name in order[start:stop] for name in block.vanishing}
                idle = [name for name in both.vanishing if name not in left]
                alternatives += [Alternative(name, frozenset(order[start:stop]), ()) for name in idle]
        self._probe(blocks, alternatives)
        return BlockNetwork(self._network, tuple(blocks), tuple(alternatives))

    def _probe(self, blocks: Sequence[Block], alternatives: Sequence[Alternative]) -> None:
        rng = random.Random(0)
        sets = [self._names, *([name for name in self._names if rng.random() < 0.5] for _ in range(PROBES))]
        for removed in sets:
            if not self._agrees(blocks, alternatives, removed):
                raise ModelError(
                    f"without {', '.join(removed)} the runtime would fuse other layers than without each of these "
                    "blocks: they cannot be costed together"
                )

    def _agrees(self, blocks: Sequence[Block], alternatives: Sequence[Alternative], removed: Collection[str]) -> bool:
        expected, _ = self._executed(removed)
        found = Variants(self._network, blocks, alternatives).without(removed)
        return _described(found) == _described(expected)

    def _executed(self, removed: Collection[str]) -> tuple[Network, list[Unit]]:
        """What the runtime executes without these blocks: as a network, and as units in the same order."""
        gone: set[int] = set()
        moved: dict[str, str] = {}
        for name in removed:
            gone |= self._cuts[name].gone
            moved |= self._cuts[name].moved

        units = [
            replace(unit, inputs=tuple(_followed(source, moved) for source in unit.inputs))
            for at, unit in enumerate(self._units)
            if at not in gone
        ]
        outputs = tuple(_followed(output, moved) for output in self._graph.outputs)
        units = _needed(units, outputs)
        fused = fuse(units, outputs, self._rules)
        return assemble(fused, replace(self._graph, outputs=outputs)), fused

    def _difference(self, removed: tuple[str, ...]) -> tuple[list[Alternative], Block]:
        """What is executed in other ways without these blocks; the block is that of the first name."""
        network, fused = self._executed(removed)
        moved = {key: value for name in removed for key, value in self._cuts[name].moved.items()}
        same, new = set[str](), dict[str, int]()
        for at, unit in enumerate(fused):
            before = self._fused[self._made[unit.output]] if unit.output in self._made else None
            if (
                before is not None
                and before.layer == unit.layer
                and unit.inputs == tuple(_followed(source, moved) for source in before.inputs)
            ):
                same.add(unit.output)
            else:
                new[unit.output] = at
        alternatives = self._chains(new, fused, network, removed)
        stood_in = {each.instead_of for each in alternatives}
        vanishing = tuple(
            node.name
            for node, unit in zip(self._network.nodes, self._fused, strict=True)
            if unit.output not in same and node.name not in stood_in
        )
        return alternatives, self._block(removed[0], vanishing, new)

    def _block(self, name: str, vanishing: tuple[str, ...], new: Collection[str]) -> Block:
        cut = self._cuts[name]
        gone = set(vanishing)
        read = {
            source
            for node, unit in zip(self._network.nodes, self._fused, strict=True)
            if node.name not in gone
            for source in (*unit.inputs, *self._graph.outputs)
        }
        handed = [tensor for tensor in cut.moved if tensor in read and tensor in self._made and tensor not in new]
        if len(handed) > 1:
            raise ModelError(f"block {name}: its sum is read both with and without the activation behind it")
        if handed:
            return Block(name, vanishing, self._made[handed[0]], self._source(_followed(handed[0], cut.moved)))
        sources = self._units[cut.at].sources
        output = next(at for at, unit in enumerate(self._fused) if sources[0] in unit.sources)
        return Block(name, vanishing, output, output)  # an alternative makes it

    def _chains(
        self, new: Mapping[str, int], fused: Sequence[Unit], network: Network, removed: Collection[str]
    ) -> list[Alternative]:
        """The new units, each with those that only it reads, by the node whose tensor the last of them makes."""
        chains = []
        left = set(new)
        for output, at in new.items():
            if output not in self._made:
                continue
            members: list[int] = []
            waiting = [at]
            while waiting:
                each = waiting.pop()
                members.append(each)
                left.discard(fused[each].output)
                inner = [source for source in fused[each].inputs if source in left and source not in self._made]
                waiting += [new[source] for source in inner]
            members.sort()
            place = {fused[member].output: position for position, member in enumerate(members)}
            nodes = []
            for member in members:
                inputs = tuple(
                    len(self._network.nodes) + place[source] if source in place else self._source(source)
                    for source in fused[member].inputs
                )
                nodes.append(replace(network.nodes[member], inputs=inputs))
            chains.append(Alternative(self._network.nodes[self._made[output]].name, frozenset(removed), tuple(nodes)))
        if left:
            raise ModelError(f"without {', '.join(removed)} the runtime would execute layers that cannot be told apart")
        return chains

    def _source(self, tensor: str) -> int:
        if tensor in self._made:
            return self._made[tensor]
        if tensor in self._graph.inputs:
            return -1 - list(self._graph.inputs).index(tensor)
        raise ModelError(f"tensor {tensor} is inside a fused layer, but is read without a block")


@dataclass(frozen=True)
class _Cut:
    """A branch among the units: where its sum is, which units go, and what is read in the place of their results."""

    at: int
    gone: frozenset[int]
    moved: Mapping[str, str]


def _cuts(units: Sequence[Unit], outputs: Sequence[str], branches: Sequence[Branch]) -> dict[str, _Cut]:
    made = {unit.output: at for at, unit in enumerate(units)}
    inputs = [[made.get(source, -1) for source in unit.inputs] for unit in units]
    sums = [at for at, unit in enumerate(units) if unit.layer.op == "add" and len(unit.inputs) == 2]
    found: dict[frozenset[str], tuple[int, int, frozenset[int]]] = {}
    for fork in find_forks(inputs, sums, [made[output] for output in outputs if output in made]):
        for side in (0, 1):
            weighted = {units[at].name for at in fork.cones[side] if units[at].layer.op in ("conv", "linear")}
            found[frozenset(weighted)] = (fork.sum, side, fork.cones[side])
    cuts = {}
    for branch in branches:
        if branch.layers not in found:
            raise ModelError(f"block {branch.name}: its branch is not found among the exported layers")
        at, side, cone = found[branch.layers]
        moved, gone = {units[at].output: units[at].inputs[1 - side]}, {at, *cone}
        for reader, unit in enumerate(units):
            if branch.drops_activation and unit.layer.op == "relu" and unit.inputs == (units[at].output,):
                moved[unit.output] = units[at].output
                gone.add(reader)
        cuts[branch.name] = _Cut(at, frozenset(gone), moved)
    return cuts


def _needed(units: Sequence[Unit], outputs: Sequence[str]) -> list[Unit]:
    """The units whose results something reads: what only removed blocks shared is idle without all of them."""
    read = set(outputs)
    kept = []
    for unit in reversed(units):
        if unit.output in read:
            read.update(unit.inputs)
            kept.append(unit)
    return kept[::-1]


def _followed(tensor: str, moved: Mapping[str, str]) -> str:
    while tensor in moved:
        tensor = moved[tensor]
    return tensor


def _described(network: Network) -> tuple[dict[str, tuple[Node, tuple[str, ...]]], tuple[str, ...]]:
    """A network without regard to the order of nodes that do not depend on each other."""
    nodes = {
        node.name: (replace(node, inputs=()), tuple(network.tensor_name(source) for source in node.inputs))
        for node in network.nodes
    }
    return nodes, tuple(network.tensor_name(source) for source in network.outputs)
