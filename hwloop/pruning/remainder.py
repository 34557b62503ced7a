"""What remains of a module when blocks in its forward function are removed.

The identity where nothing remains, a sequence of its own layers under their own names where they follow one another,
else a graph of what remains (`torch.fx.GraphModule`). The layers are the module's own, not copies.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from torch import fx, nn
from torch.nn import functional

from hwloop.errors import ModelError
from hwloop.pruning.blocks import RemovableBlock
from hwloop.pruning.symbolic import Call, Symbolic, is_relu

_Found = Callable[[fx.Node], fx.Node]
"""From a node to the one that is read in its place."""


class Remainders:
    """Makes the modules that stand in for the owners of removed blocks."""

    def __init__(self, module: nn.Module, blocks: Sequence[RemovableBlock]) -> None:
        """Trace the network, if there are blocks at all.

        Raises:
            ModelError: The blocks are of another network.
        """
        self._blocks = {block.name: block for block in blocks}
        self._known: dict[tuple[str, ...], nn.Module] = {}
        if not blocks:
            return
        self._symbolic = Symbolic(module)
        self._named = {node.name: node for node in self._symbolic.nodes}
        self._calls = {call.path: call for call in self._symbolic.calls}
        for block in blocks:
            unknown = [name for name in (block.sum, block.keeps) if name not in self._named]
            if unknown or block.owner not in self._calls or any(p not in self._symbolic.modules for p in block.branch):
                raise ModelError(f"{block.name}: the pruning space is of another network: it has no such block")

    def of(self, removed: Sequence[str]) -> Mapping[str, nn.Module]:
        """Return what stands in for which module, by its path ("" is the network), without these blocks.

        Raises:
            ModelError: A name that is no block.
        """
        unknown = [name for name in removed if name not in self._blocks]
        if unknown:
            known = f"there are {', '.join(self._blocks)}" if self._blocks else "this network has none"
            raise ModelError(f"no removable block is named {unknown[0]!r}; {known}")
        blocks = [block for name, block in self._blocks.items() if name in removed]
        owners = dict.fromkeys(block.owner for block in blocks)
        outer = [owner for owner in owners if not any(_inside(owner, other) for other in owners)]
        return {
            owner: self._remainder(
                owner, tuple(block.name for block in blocks if block.owner == owner or _inside(block.owner, owner))
            )
            for owner in outer
        }

    def _remainder(self, owner: str, removed: tuple[str, ...]) -> nn.Module:
        made = self._known.get(removed)
        if made is None:
            made = self._made(self._calls[owner], [self._blocks[name] for name in removed])
            if len(removed) == 1:  # combinations are too many to keep
                self._known[removed] = made
        own = {id(layer) for layer in self._symbolic.modules.values()}
        for part in made.modules():
            if id(part) not in own:
                part.training = self._symbolic.modules[owner].training
        return made

    def _made(self, call: Call, blocks: Sequence[RemovableBlock]) -> nn.Module:
        symbolic, moved, altered = self._symbolic, {}, set()
        for block in blocks:
            total = self._named[block.sum]
            moved[total] = self._named[block.keeps]
            for reader in total.users:
                if is_relu(reader, symbolic) and block.drops_activation:
                    moved[reader] = total
                else:
                    altered.add(reader)  # it must not write into a tensor that others read

        def found(node: fx.Node) -> fx.Node:
            while node in moved:
                node = moved[node]
            return node

        if call.result is not None and call.path:
            steps = self._sequence(call, found, altered)
            if steps is not None:
                return _nested(steps)
        return self._graph(call, found, altered)

    def _sequence(self, call: Call, found: _Found, altered: set[fx.Node]) -> list[tuple[str, nn.Module]] | None:
        """The modules from the call's source to its result, last to first reversed; None if it is no sequence."""
        symbolic = self._symbolic
        assert call.result is not None
        node, steps = found(call.result), []
        whole = {
            inner.result: inner
            for inner in symbolic.calls
            if call.start <= inner.start and inner.stop <= call.stop and inner.path != call.path and inner.source
        }
        while node is not call.source:
            inner = whole.get(node)
            if inner is not None and inner.source is not None and self._untouched(inner, found, altered):
                steps.append((inner.path, symbolic.modules[inner.path]))
                node = found(inner.source)
                continue
            sources = node.all_input_nodes
            if len(sources) != 1:
                return None
            layer = symbolic.module(node)
            if layer is not None:
                steps.append((str(node.target), _apart(layer) if node in altered else layer))
            elif is_relu(node, symbolic):
                steps.append((f"{call.path}.activation", nn.ReLU()))
            else:
                return None
            node = found(sources[0])
        named = [(path.removeprefix(f"{call.path}."), layer) for path, layer in reversed(steps)]
        return named if _is_tree([name.split(".") for name, _ in named]) else None

    def _untouched(self, inner: Call, found: _Found, altered: set[fx.Node]) -> bool:
        """Whether a module inside the owner computes what it did: no block of it is removed."""
        nodes = self._symbolic.nodes[inner.start : inner.stop]
        return all(found(node) is node and node not in altered for node in nodes)

    def _graph(self, call: Call, found: _Found, altered: set[fx.Node]) -> nn.Module:
        """What is left as a graph of its own; the submodules keep their names."""
        symbolic, graph = self._symbolic, fx.Graph()
        prefix = f"{call.path}." if call.path else ""
        root = symbolic.modules[call.path]
        copies: dict[fx.Node, fx.Node] = {}
        assert call.source is not None
        copies[call.source] = graph.placeholder(call.source.name)
        output = symbolic.nodes[-1].args[0] if not call.path else call.result
        needed = _needed(output, found, call.source)
        for node in symbolic.nodes[call.start : call.stop]:
            if node not in needed:
                continue
            twin = graph.node_copy(node, lambda each: copies[found(each)])
            if node.op in ("call_module", "get_attr"):
                twin.target = str(node.target).removeprefix(prefix)
            if node in altered:
                _keep_apart(twin)
            copies[node] = twin
        graph.output(fx.node.map_arg(output, lambda each: copies[found(each)]))
        made = fx.GraphModule(root, graph, class_name=type(root).__name__)
        for node in needed & altered:
            layer = symbolic.module(node)
            if layer is not None and getattr(layer, "inplace", False):
                made.set_submodule(str(node.target).removeprefix(prefix), _apart(layer))
        return made


def _needed(output: Any, found: _Found, source: fx.Node) -> set[fx.Node]:
    waiting: list[fx.Node] = []
    fx.node.map_arg(output, waiting.append)
    needed: set[fx.Node] = set()
    while waiting:
        node = found(waiting.pop())
        if node is not source and node not in needed:
            needed.add(node)
            waiting.extend(node.all_input_nodes)
    return needed


def _is_tree(paths: Sequence[Sequence[str]]) -> bool:
    """Whether steps with these paths are what nested sequences with those names would do, in that order."""
    groups = [(first, [path[1:] for path in found]) for first, found in groupby(paths, key=lambda path: path[0])]
    firsts = [first for first, _ in groups]
    if len(set(firsts)) < len(firsts):
        return False
    return all(rests == [[]] or (all(rests) and _is_tree(rests)) for _, rests in groups)


def _nested(steps: Sequence[tuple[str, nn.Module]]) -> nn.Module:
    """A sequence whose modules have the names that they had ("shortcut.0" is in a sequence "shortcut")."""
    if not steps:
        return nn.Identity()
    parts: OrderedDict[str, list[tuple[str, nn.Module]] | nn.Module] = OrderedDict()
    for name, layer in steps:
        first, _, rest = name.partition(".")
        if not rest:
            parts[first] = layer
            continue
        inner = parts.setdefault(first, [])
        assert isinstance(inner, list)  # _is_tree
        inner.append((rest, layer))
    made: list[tuple[str, nn.Module]] = [
        (first, part if isinstance(part, nn.Module) else _nested(part)) for first, part in parts.items()
    ]
    return nn.Sequential(OrderedDict(made))


def _apart(layer: nn.Module) -> nn.Module:
    """A layer that leaves what it reads as it is: behind a removed sum that is what others may read."""
    if not getattr(layer, "inplace", False):
        return layer
    twin = copy.copy(layer)
    twin.__dict__["inplace"] = False
    return twin


def _keep_apart(node: fx.Node) -> None:
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    if node.op == "call_method" and str(node.target).endswith("_"):
        node.target = str(node.target).removesuffix("_")
    if node.target is functional.relu_:
        node.target = functional.relu


def _inside(path: str, owner: str) -> bool:
    return path != owner and (not owner or path.startswith(f"{owner}."))
