"""What of a network a runtime executes: every layer, or only those whose results depend on the input and are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwloop.layers import Layer, Network


@dataclass(frozen=True)
class Flow:
    """Layers and the flow of data between them.

    Attributes:
        layers: n layers in execution order.
        inputs: of each layer, the indices of the layers that it reads; -1 is an input of the network.
        readers: of each layer, the indices of the layers that read it.
    """

    layers: tuple[Layer, ...]
    inputs: tuple[tuple[int, ...], ...]
    readers: tuple[tuple[int, ...], ...]

    @classmethod
    def everything(cls, network: Network) -> Flow:
        """Every layer of the network, as a runtime runs it that takes the graph as it is written."""
        inputs = [tuple(max(source, -1) for source in node.inputs) for node in network.nodes]
        return cls._of([node.layer for node in network.nodes], inputs)

    @classmethod
    def live(cls, network: Network) -> Flow:
        """The layers that a runtime keeps which folds constants and removes dead code.

        A layer is dead when no path leads to it from an input of the network (its result is a constant), or none
        from it to an output. A sum that is left with one live term is that term.
        """
        count = len(network.nodes)
        alive = _used(network, _varying(network))
        stands_for = dict.fromkeys(range(-len(network.input_shapes), 0), -1)
        kept: list[Layer] = []
        inputs: list[tuple[int, ...]] = []
        for index in range(count):
            if not alive[index]:
                continue
            node = network.nodes[index]
            sources = [stands_for[source] for source in node.inputs if source < 0 or alive[source]]
            if node.layer.op == "add" and len(sources) == 1 < len(node.inputs):
                stands_for[index] = sources[0]
                continue
            stands_for[index] = len(kept)
            kept.append(node.layer)
            inputs.append(tuple(sources))
        return cls._of(kept, inputs)

    @classmethod
    def _of(cls, layers: Sequence[Layer], inputs: Sequence[tuple[int, ...]]) -> Flow:
        readers: list[list[int]] = [[] for _ in layers]
        for index, sources in enumerate(inputs):
            for source in sources:
                if source >= 0:
                    readers[source].append(index)
        return cls(tuple(layers), tuple(inputs), tuple(map(tuple, readers)))


def _varying(network: Network) -> list[bool]:
    """Of each node, whether its result depends on an input of the network."""
    varying: list[bool] = []
    for node in network.nodes:
        varying.append(any(source < 0 or varying[source] for source in node.inputs))
    return varying


def _used(network: Network, varying: Sequence[bool]) -> list[bool]:
    """Of each node, whether it is varying and an output depends on it."""
    used = [False] * len(network.nodes)
    for output in network.outputs:
        if output >= 0:
            used[output] = varying[output]
    for index in range(len(used) - 1, -1, -1):
        if used[index]:
            for source in network.nodes[index].inputs:
                if source >= 0:
                    used[source] = varying[source]
    return used
