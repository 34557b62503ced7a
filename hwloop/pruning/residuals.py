"""Finds the residual blocks of a network in the graph of its forward function, not in its names.

A block is a sum of a branch and a shortcut that part at one tensor and do not touch in between. Without its branch it
is its shortcut: nothing at all where the shortcut is the identity, else what leads to the shapes that the sum has
(a projection, a padded slice). What follows the sum stays, but for a ReLU of what is never negative.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from hwloop.errors import ModelError
from hwloop.extraction.residual import Fork, find_forks
from hwloop.pruning.blocks import FixedBlock, RemovableBlock
from hwloop.pruning.symbolic import (
    Call,
    Symbolic,
    is_relu,
    is_sum,
    never_negative,
    positions,
    silenced_by,
)


class _FixedError(Exception):
    """A block has to stay; the text says why."""


def find_blocks(
    module: nn.Module, input_shape: Sequence[int]
) -> tuple[tuple[RemovableBlock, ...], tuple[FixedBlock, ...]]:
    """Find the residual blocks of a network.

    Args:
        module: any network of one image input; left untouched.
        input_shape: (channels, height, width).

    Returns:
        The blocks that look removable, and those that are not with the reason, both in the order of their sums. A
        network that cannot be traced has one fixed block, itself.
    """
    network = copy.deepcopy(module).to("cpu").eval()
    try:
        symbolic = Symbolic(network)
        shapes = symbolic.shapes(torch.zeros(1, *input_shape))
    except ModelError as error:
        return (), (FixedBlock(type(module).__name__, str(error)),)
    sums = [
        at
        for at, node in enumerate(symbolic.nodes)
        if is_sum(node) and len({shapes.get(each) for each in (node, *node.all_input_nodes)}) == 1
    ]
    finder = _Finder(symbolic)
    for fork in find_forks(positions(symbolic.nodes, symbolic), sums, ()):
        finder.take(fork)
    return finder.named()


class _Finder:
    def __init__(self, symbolic: Symbolic) -> None:
        self._symbolic = symbolic
        self._found: list[tuple[str, RemovableBlock | str, frozenset[int]]] = []  # name, block or reason, its branch

    def take(self, fork: Fork) -> None:
        branch = self._branch(fork)
        if branch is None:
            return
        owner = self._owner(fork, branch)
        name = owner.path or (self._layers(fork.cones[branch]) or self._layers(fork.paths[branch]))[0]
        try:
            self._found.append((name, self._block(fork, branch, owner, name), fork.cones[branch]))
        except _FixedError as reason:
            self._found.append((name, str(reason), fork.cones[branch]))

    def _branch(self, fork: Fork) -> int | None:
        """Which operand could go: what is computed from the other, else what has more layers; None: neither."""
        weights = [len(self._layers(path)) for path in fork.paths]
        if fork.identity is not None:
            return 1 - fork.identity if weights[1 - fork.identity] else None
        if weights[0] == weights[1]:
            return None
        return 0 if weights[0] > weights[1] else 1

    def named(self) -> tuple[tuple[RemovableBlock, ...], tuple[FixedBlock, ...]]:
        """Return what was found, named without doubt, no block inside another's branch lost."""
        names = [name for name, _, _ in self._found]
        blocks, fixed = [], []
        for at, (name, found, branch) in enumerate(self._found):
            if names.count(name) > 1 and not isinstance(found, str):
                name = found.layers[0]
            inner = [other for place, (other, _, path) in enumerate(self._found) if place != at and path < branch]
            if isinstance(found, str):
                fixed.append(FixedBlock(name, found))
            elif inner:
                fixed.append(FixedBlock(name, f"other blocks are inside it: {', '.join(inner)}"))
            else:
                blocks.append(replace(found, name=name))
        return tuple(blocks), tuple(fixed)

    def _block(self, fork: Fork, branch: int, owner: Call, name: str) -> RemovableBlock:
        symbolic = self._symbolic
        gone, total = fork.cones[branch], symbolic.nodes[fork.sum]
        kept = total.all_input_nodes[1 - branch]
        if not self._layers(gone) or (fork.identity is None and gone != fork.paths[branch]):
            raise _FixedError("what its branch computes is read elsewhere too")
        if owner.source is None or (owner.path and owner.result is None):
            raise _FixedError(f"{owner.path or 'the network'} takes or gives more than one tensor")
        modules = self._modules(gone)
        elsewhere = self._modules(frozenset(range(len(symbolic.nodes))) - gone)
        shared = [path for path in modules if path in elsewhere or symbolic.times_called(path) > 1]
        if [path for path in shared if any(True for _ in symbolic.modules[path].parameters())]:
            raise _FixedError(f"{shared[0]!r} of its branch is used elsewhere too")
        silenced = silenced_by(symbolic.nodes[fork.operands[branch]], symbolic)
        if silenced is None:
            raise _FixedError("its branch does not end in a layer that can be silenced, so its removal cannot be tried")
        behind = [node for node in total.users if is_relu(node, symbolic)]
        inside = all(owner.start <= symbolic.position[node] < owner.stop for node in behind)
        drops = bool(behind) and inside and never_negative(kept, symbolic)
        branch_modules = tuple(path for path in modules if path not in shared)
        layers = tuple(path for path in branch_modules if isinstance(symbolic.modules[path], _ConvNd | nn.Linear))
        return RemovableBlock(name, owner.path, total.name, kept.name, branch_modules, layers, silenced, drops)

    def _owner(self, fork: Fork, branch: int) -> Call:
        """The innermost call that computes the whole block."""
        shortcut = fork.paths[1 - branch] if fork.identity is None else ()
        whole = {*fork.cones[branch], *shortcut, fork.sum}
        constants = {at for at in whole if self._symbolic.nodes[at].op == "get_attr"}
        inner, outer = min(whole - constants), max(whole)
        for call in self._symbolic.calls:  # inner calls come first
            around = call.start <= inner and outer < call.stop
            if around and (not call.path or self._replaceable(call)):
                return call
        raise AssertionError("the network's own call is around everything")

    def _replaceable(self, call: Call) -> bool:
        """Whether a module could be another one: it is called once, and reads one tensor and nothing else."""
        if self._symbolic.times_called(call.path) > 1 or call.source is None or call.result is None:
            return False
        nodes = self._symbolic.nodes
        read = {source for node in nodes[call.start : call.stop] for source in node.all_input_nodes}
        outside = read - {*nodes[call.start : call.stop], call.source}
        return all(source.op == "get_attr" for source in outside)

    def _modules(self, path: frozenset[int]) -> list[str]:
        """The layers that are called on a path, in order."""
        nodes = [self._symbolic.nodes[at] for at in sorted(path)]
        return list(dict.fromkeys(str(node.target) for node in nodes if node.op == "call_module"))

    def _layers(self, path: frozenset[int]) -> list[str]:
        return [name for name in self._modules(path) if isinstance(self._symbolic.modules[name], _ConvNd | nn.Linear)]
