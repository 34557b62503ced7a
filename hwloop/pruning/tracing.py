"""Coupled channels of a network, from torch-pruning's dependency graph (Fang et al. 2023, "DepGraph").

The only module that knows torch-pruning. What it returns is believed only after `verification` has tried it.
Traps of torch-pruning 1.6.1 that are kept shut here: frozen parameters give no groups, so the traced copy has none;
an example tensor is unpacked along its batch, so a forward function is given; its pruners share mutable default
arguments and skip groups in silence, so only the graph is used and every group is asked for by name.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from hwloop.errors import ModelError
from hwloop.pruning.groups import ChannelGroup, Coupling, FixedGroup, Side

_OPERATION_TYPES = frozenset(
    {
        tp.ops.OPTYPE.CONCAT,
        tp.ops.OPTYPE.SPLIT,
        tp.ops.OPTYPE.ELEMENTWISE,
        tp.ops.OPTYPE.RESHAPE,
        tp.ops.OPTYPE.UNBIND,
        tp.ops.OPTYPE.EXPAND,
        tp.ops.OPTYPE.SLICE,
    }
)


class _UnprunableError(Exception):
    """A group has to stay as it is; the text says why."""


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a convolution has one filter per input channel, and so follows its input."""
    return (
        isinstance(module, _ConvNd) and module.groups > 1 and module.groups == module.in_channels == module.out_channels
    )


def trace_groups(
    module: nn.Module, input_shape: Sequence[int]
) -> tuple[tuple[ChannelGroup, ...], tuple[FixedGroup, ...]]:
    """Find the coupled channels of a network.

    Args:
        module: any network of one image input; left untouched.
        input_shape: (channels, height, width).

    Returns:
        The groups that look prunable, and those that cannot be, both in the order of the network's modules.

    Raises:
        ModelError: The network does not run on that shape, or its graph cannot be traced.
    """
    network = copy.deepcopy(module).eval().requires_grad_(True)
    images = torch.zeros(1, *input_shape, device=_device(network))
    _check_forward(module, network, images)
    graph = tp.DependencyGraph()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph.build_dependency(network, images, forward_fn=_forward, verbose=False)
    except Exception as error:  # torch-pruning raises whatever its walk of the autograd graph meets
        raise ModelError(
            f"{type(module).__name__}: torch-pruning cannot trace its graph: {type(error).__name__}: {_line(error)}"
        ) from error
    tracer = _Tracer(network, graph)
    groups: list[ChannelGroup] = []
    fixed: list[FixedGroup] = []
    for found in tracer.found():
        if isinstance(found, ChannelGroup):
            groups.append(found)
        else:
            fixed.append(found)
    return tuple(groups), tuple(fixed)


class _Tracer:
    """Asks a dependency graph for the group of every layer and translates the answers."""

    def __init__(self, network: nn.Module, graph: Any) -> None:
        self._graph = graph
        self._modules = dict(network.named_modules())
        self._paths = {module: path for path, module in self._modules.items()}
        self._parameters = {id(parameter): path for path, parameter in network.named_parameters()}
        self._uses: dict[int, int] = {}
        for child in network.modules():
            for parameter in child.parameters(recurse=False):
                self._uses[id(parameter)] = self._uses.get(id(parameter), 0) + 1

    def found(self) -> Iterator[ChannelGroup | FixedGroup]:
        visited: set[str] = set()
        for path, layer in self._modules.items():
            if path in visited or layer not in self._graph.module2node:
                continue
            if not isinstance(layer, _ConvNd | nn.Linear) or is_depthwise(layer):
                continue
            roots: list[str] = [path]
            try:
                items = self._items(layer)
                roots = self._roots(items) or roots
                earlier = [root for root in roots if root in visited]
                if earlier:
                    raise _UnprunableError(f"it is joined to {earlier[0]!r}, whose own group does not contain it")
                yield self._translated(path, items, roots)
            except _UnprunableError as reason:
                yield FixedGroup(path, str(reason), tuple(roots))
            visited.update(roots)

    def _items(self, layer: nn.Module) -> list[tuple[Any, Any, list[int], list[int]]]:
        """Return (node, handler, indices, channels of the root) of all that the layer's outputs are coupled to."""
        node = self._graph.module2node[layer]
        pruner = self._graph.get_pruner_of_module(layer)
        width = pruner.get_out_channels(layer)
        if not node.outputs:
            raise _UnprunableError("its channels are the network's outputs")
        try:
            group = self._graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(width)))
        except Exception as error:  # as above: anything can come out of the walk
            raise _UnprunableError(f"torch-pruning fails on it: {type(error).__name__}: {_line(error)}") from error
        return [(item.dep.target, item.dep.handler, list(item.idxs), list(item.root_idxs)) for item in group.items]

    def _roots(self, items: list[tuple[Any, Any, list[int], list[int]]]) -> list[str]:
        """Return the paths of the layers whose outputs are concerned, in the order of the network's modules."""
        concerned = {
            self._paths[node.module]
            for node, handler, _, _ in items
            if isinstance(node.module, _ConvNd | nn.Linear)
            and not is_depthwise(node.module)
            and self._graph.is_out_channel_pruning_fn(handler)
        }
        return [path for path in self._modules if path in concerned]

    def _translated(
        self, path: str, items: list[tuple[Any, Any, list[int], list[int]]], roots: list[str]
    ) -> ChannelGroup:
        width = self._graph.get_out_channels(self._modules[path])
        couplings: list[Coupling] = []
        divisor = 1
        for node, handler, indices, channels in items:
            if node.type in _OPERATION_TYPES:
                continue
            if node.type == tp.ops.OPTYPE.OUTPUT:
                raise _UnprunableError("its channels are the network's outputs")
            coupling = self._coupling(node, handler, indices, channels)
            if coupling is None:
                continue
            couplings.append(coupling)
            if coupling.target in roots and coupling.side == "out":
                self._check_root(coupling, width)
            divisor = math.lcm(divisor, self._divisor(coupling, width))
        if width == 1:
            raise _UnprunableError("it has only one channel")
        if divisor >= width:
            raise _UnprunableError(f"a grouped convolution leaves no width below {width}")
        return ChannelGroup(roots[0], width, tuple(roots), divisor, tuple(couplings))

    def _coupling(self, node: Any, handler: Any, indices: list[int], channels: list[int]) -> Coupling | None:
        module = node.module
        if isinstance(module, nn.Parameter):
            target = self._parameters[id(module)]
            local = _local(target, module.shape[node.pruning_dim], indices, channels)
            return Coupling(target, "parameter", local, node.pruning_dim)
        target = self._paths[module]
        outwards = self._graph.is_out_channel_pruning_fn(handler)
        side: Side
        if is_depthwise(module):
            side, size = "both", module.out_channels
        elif isinstance(module, _ConvNd):
            side, size = ("out", module.out_channels) if outwards else ("in", module.in_channels)
        elif isinstance(module, nn.Linear):
            side, size = ("out", module.out_features) if outwards else ("in", module.in_features)
        elif isinstance(module, _BatchNorm | _InstanceNorm):
            side, size = "both", module.num_features
        elif isinstance(module, nn.PReLU):
            if module.num_parameters == 1:
                return None  # one slope for all channels: nothing to slice
            side, size = "both", module.num_parameters
        else:
            raise _UnprunableError(f"{type(module).__name__} {target!r} reads its channels and cannot be sliced")
        self._check_parameters(target, module)
        if side != "in" and not node.outputs:
            raise _UnprunableError("its channels are the network's outputs")
        return Coupling(target, side, _local(target, size, indices, channels))

    def _check_parameters(self, target: str, module: nn.Module) -> None:
        for name in ("weight", "bias"):
            if getattr(module, name, None) is not None and name not in module._parameters:
                raise _UnprunableError(f"the {name} of {target!r} is computed from other parameters")
        for parameter in module.parameters(recurse=False):
            if self._uses[id(parameter)] > 1:
                raise _UnprunableError(f"{target!r} shares a parameter with another layer")

    def _check_root(self, coupling: Coupling, width: int) -> None:
        covered = [channel for channel in coupling.channels if channel >= 0]
        if len(covered) < len(coupling.channels) or sorted(covered) != list(range(width)):
            raise _UnprunableError(
                f"its {width} channels are joined to only {len(covered)} of the {len(coupling.channels)} channels of "
                f"{coupling.target!r} (a padded, sliced or concatenated shortcut)"
            )

    def _divisor(self, coupling: Coupling, width: int) -> int:
        """Return what a grouped convolution demands of the widths."""
        module = self._modules.get(coupling.target)
        if not isinstance(module, _ConvNd) or module.groups == 1 or is_depthwise(module):
            return 1
        if module.transposed:
            raise _UnprunableError(f"{coupling.target!r} is a transposed convolution with groups")
        if coupling.channels != tuple(range(width)):
            raise _UnprunableError(f"{coupling.target!r} is a grouped convolution over joined channels")
        return module.groups


def _local(target: str, size: int, indices: list[int], channels: list[int]) -> tuple[int, ...]:
    """Return the channel of each of `size` local indices, -1 for those that are not of the group."""
    local = [-1] * size
    for index, channel in zip(indices, channels, strict=True):
        if channel is None or not 0 <= index < size:
            raise _UnprunableError(f"torch-pruning joins it to channels of {target!r} that do not exist")
        local[index] = channel
    return tuple(local)


def _forward(network: nn.Module, images: Tensor) -> Any:
    return network(images)


def _check_forward(module: nn.Module, network: nn.Module, images: Tensor) -> None:
    name, shape = type(module).__name__, tuple(images.shape[1:])
    try:
        with torch.enable_grad():
            found = network(images)
    except Exception as error:  # a user's network may raise anything
        raise ModelError(
            f"{name} does not run on images of shape {shape}: {type(error).__name__}: {_line(error)}"
        ) from error
    tensors = flat_tensors(found)
    if not tensors:
        raise ModelError(f"{name}: returns {type(found).__name__} and no tensors, which cannot be traced")
    if all(tensor.grad_fn is None for tensor in tensors):
        raise ModelError(
            f"{name}: cannot be traced: its outputs do not depend on its parameters in a way that autograd sees"
        )


def flat_tensors(found: Any) -> list[Tensor]:
    """Return the tensors of a network's outputs: a tensor, or lists, tuples and mappings of them."""
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return [tensor for part in found for tensor in flat_tensors(part)]
    return []


def _device(network: nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def _line(error: BaseException) -> str:
    return (str(error).strip() or "no further text").splitlines()[0]
