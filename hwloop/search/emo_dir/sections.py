"""A network cut into consecutive sections that can be run alone, before and after it is pruned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn

from hwloop.errors import ModelError


class _Units(fx.Tracer):
    """Traces through sequences, and takes every other module as one unit."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is not nn.Sequential


class Sections:
    """The forward function of a network in pieces between which exactly one tensor passes.

    The pieces are found once, on the unpruned network: surgery keeps the paths of its units, whatever stands there
    afterwards.

    Attributes:
        cuts: paths of the modules behind which the network is cut.
        units: for each section the paths of its modules.

    Args:
        module: the unpruned network.
        cuts: paths of modules outside or directly in sequences ("layer1", "features.6"), in the order of the network;
            None cuts behind every sequence of the network that has convolutions, but the last.

    Raises:
        ModelError: the network cannot be traced, or a cut is not one.
    """

    def __init__(self, module: nn.Module, cuts: Sequence[str] | None = None) -> None:
        try:
            graph = _Units().trace(module)
        except Exception as error:  # a user's forward function may do anything
            reason = (str(error).strip() or "no further text").splitlines()[0]
            raise ModelError(f"emo-dir cannot divide the network: {type(error).__name__}: {reason}") from error
        self.cuts = tuple(_stages(module) if cuts is None else cuts)
        if not self.cuts:
            raise ModelError("emo-dir needs at least one place to cut the network at: name modules as its parts")
        nodes = list(graph.nodes)
        self._input = next(node for node in nodes if node.op == "placeholder")
        ends = [_end(nodes, cut) for cut in self.cuts]
        if sorted(set(ends)) != ends:
            raise ModelError(f"emo-dir: the cuts {', '.join(self.cuts)} are not in the order of the network")
        bounds = [nodes.index(self._input), *ends, len(nodes) - 2]  # the last node is the output
        self._pieces = [nodes[low + 1 : high + 1] for low, high in itertools.pairwise(bounds)]
        self._sources = [nodes[bound] for bound in bounds[:-1]]
        for cut, source, piece in zip(self.cuts, self._sources[1:], self._pieces[1:], strict=True):
            _check(cut, source, [*piece, *nodes[nodes.index(piece[-1]) + 1 :]])
        result = nodes[-1].args[0]
        if result is not self._pieces[-1][-1]:
            raise ModelError("emo-dir takes networks that return one tensor, the last that they compute")
        self.units = tuple(
            tuple(dict.fromkeys(str(node.target) for node in piece if node.op == "call_module"))
            for piece in self._pieces
        )

    def __len__(self) -> int:
        """How many sections there are."""
        return len(self._pieces)

    def section(self, network: nn.Module, number: int) -> Section:
        """One section of the network that was traced, or of one that was pruned from it."""
        return Section(network, self._sources[number], self._pieces[number], self.units[number])

    def owner(self, path: str) -> int | None:
        """The section that a module belongs to; None for a module around several."""
        owners = [
            number
            for number, units in enumerate(self.units)
            if any(path == unit or path.startswith(f"{unit}.") for unit in units)
        ]
        return owners[0] if len(owners) == 1 else None


class Section(nn.Module):
    """A piece of a network that is a network itself; its modules are the network's own."""

    def __init__(self, network: nn.Module, source: fx.Node, piece: Sequence[fx.Node], units: Sequence[str]) -> None:
        super().__init__()
        self._source = source
        self._piece = tuple(piece)
        self.units = nn.ModuleList([network.get_submodule(unit) for unit in units])
        self._index = {unit: place for place, unit in enumerate(units)}

    def forward(self, features: Tensor) -> Tensor:
        """Map what the section before gives to what the section behind takes."""
        known: dict[fx.Node, Any] = {self._source: features}

        def value(node: fx.Node) -> Any:
            return known[node]

        for node in self._piece:
            args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
            if node.op == "call_module":
                known[node] = self.units[self._index[str(node.target)]](*args, **kwargs)
            elif node.op == "call_method":
                first, *others = args
                known[node] = getattr(first, str(node.target))(*others, **kwargs)
            else:
                assert callable(node.target)  # a call of a function, as `_check` has seen
                known[node] = node.target(*args, **kwargs)
        result = known[self._piece[-1]]
        assert isinstance(result, Tensor)
        return result


def _stages(module: nn.Module) -> list[str]:
    """Paths of the sequences directly in a network that have convolutions, but the last."""
    return [
        name
        for name, child in module.named_children()
        if type(child) is nn.Sequential and any(isinstance(each, nn.Conv2d) for each in child.modules())
    ][:-1]


def _end(nodes: Sequence[fx.Node], cut: str) -> int:
    """Position of the last call inside a module."""
    places = [
        place
        for place, node in enumerate(nodes)
        if node.op == "call_module" and (node.target == cut or str(node.target).startswith(f"{cut}."))
    ]
    if not places:
        known = dict.fromkeys(str(node.target) for node in nodes if node.op == "call_module")
        raise ModelError(f"emo-dir cannot cut the network behind {cut!r}; it can be cut behind {', '.join(known)}")
    return places[-1]


def _check(cut: str, source: fx.Node, behind: Sequence[fx.Node]) -> None:
    """Refuse a cut behind which something else than its one tensor is needed."""
    known = {source, *behind}
    for node in behind:
        if node.op == "get_attr":
            raise ModelError(f"emo-dir cannot run {node.target!r} on its own: it is a parameter outside of modules")
        strangers = [before for before in node.all_input_nodes if before not in known]
        if strangers:
            raise ModelError(
                f"emo-dir cannot cut the network behind {cut!r}: {node.name} also needs {strangers[0].name}, which is"
                " computed before it"
            )
