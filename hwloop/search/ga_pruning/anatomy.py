"""What the evolution must know of a network: its layers, which channels hang together, and what zeros save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwloop.errors import ModelError
from hwloop.pruning import ChannelGroup, pruning_space
from hwloop.training import evaluating

Genome = Mapping[str, Tensor]
"""All parameters of a network by name: an individual is a partly zeroed network."""


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer.

    Attributes:
        path: of the module.
        positions: at which a convolution's kernels are applied to one image; 0 for a linear layer.
    """

    path: str
    positions: int

    @property
    def weight(self) -> str:
        """Name of its weights."""
        return f"{self.path}.weight"


@dataclass(frozen=True)
class Slice:
    """What one parameter has for each channel of a group.

    Attributes:
        name: of the parameter.
        dim: along which its channels lie.
        channels: the group's channel at each index of that dimension.
        side: "out" makes the channels, "in" reads them, "both" scales or shifts them.
    """

    name: str
    dim: int
    channels: Tensor
    side: str


@dataclass(frozen=True)
class Census:
    """What is left of a network.

    Attributes:
        parameters: that are not zero, biases included.
        all_parameters: of the unpruned network.
        computation: multiply-accumulates of convolution kernels with at least one weight that is not zero.
        fine_computation: multiply-accumulates of convolution weights that are not zero.
        all_computation: multiply-accumulates of all convolutions of the unpruned network.
    """

    parameters: int
    all_parameters: int
    computation: int
    fine_computation: int
    all_computation: int

    @property
    def parameters_left(self) -> float:
        """Share of the parameters."""
        return self.parameters / self.all_parameters

    @property
    def computation_left(self) -> float:
        """Share of the convolutions' computation, kernel by kernel; 0 where there is none."""
        return self.computation / self.all_computation if self.all_computation else 0.0


class Anatomy:
    """Layers and channels of a network of plain convolutions, batch normalisations and linear layers.

    Attributes:
        layers: the convolutions and linear layers, in the order of the network's modules.
        groups: of channels that can only go together.
        channels: by the path of the layer that makes them, the slices of each group of channels that can go.

    Args:
        module: the network.
        input_shape: (channels, height, width) of an image.
        unpruned: the census that shares are of, where the network is a part of another; None for its own.

    Raises:
        ModelError: The network has grouped or transposed convolutions, or nothing that can be pruned.
    """

    def __init__(self, module: nn.Module, input_shape: Sequence[int], unpruned: Census | None = None) -> None:
        sizes = _map_sizes(module, input_shape)
        self.layers = tuple(Layer(path, size) for path, size in sizes.items())
        self.groups = pruning_space(module, input_shape).groups
        self.channels: Mapping[str, tuple[Slice, ...]] = {
            root: slices for group in self.groups for slices in [_slices(module, group)] for root in group.roots
        }
        self._groups = [(group.width, self.channels[group.roots[0]]) for group in self.groups]
        self._unpruned = unpruned

    def settled(self, genome: Genome) -> dict[str, Tensor]:
        """A copy of a genome without dead channels.

        A channel that nothing makes, or that nothing reads, is zeroed wherever it occurs, until there are no more.
        """
        settled = {name: tensor.clone() for name, tensor in genome.items()}
        changed = True
        while changed:
            changed = False
            for width, slices in self._groups:
                made = _alive(settled, width, [each for each in slices if each.side == "out"])
                readers = [each for each in slices if each.side == "in"]
                dead = ~(made & _alive(settled, width, readers)) if readers else ~made
                for each in slices if bool(dead.any()) else ():
                    gone = dead[each.channels]
                    rows = settled[each.name].movedim(each.dim, 0)
                    if bool(rows[gone].any()):
                        rows[gone] = 0
                        changed = True
        return settled

    def living(self, settled: Genome) -> dict[str, tuple[int, ...]]:
        """By group name, the channels of a settled genome that are alive; of a group that is dead, the first."""
        found = {}
        for group, (width, slices) in zip(self.groups, self._groups, strict=True):
            alive = _alive(settled, width, [each for each in slices if each.side == "out"])
            found[group.name] = tuple(alive.nonzero().flatten().tolist()) or (0,)
        return found

    def census(self, genome: Genome) -> Census:
        """Count what is not zero."""
        coarse = fine = everything = 0
        for layer in self.layers:
            weight = genome[layer.weight]
            if layer.positions:
                area = weight[0, 0].numel()
                coarse += int(weight.flatten(2).any(dim=2).sum()) * area * layer.positions
                fine += int(weight.count_nonzero()) * layer.positions
                everything += weight.numel() * layer.positions
        return Census(
            parameters=sum(int(tensor.count_nonzero()) for tensor in genome.values()),
            all_parameters=(
                self._unpruned.all_parameters if self._unpruned else sum(tensor.numel() for tensor in genome.values())
            ),
            computation=coarse,
            fine_computation=fine,
            all_computation=self._unpruned.all_computation if self._unpruned else everything,
        )


def _alive(genome: Genome, width: int, slices: Sequence[Slice]) -> Tensor:
    """(width,) flags of the channels for which some slice is not zero."""
    alive = torch.zeros(width, dtype=torch.bool)
    for each in slices:
        present = genome[each.name].movedim(each.dim, 0).flatten(1) if genome[each.name].dim() > 1 else None
        flags = (genome[each.name] != 0) if present is None else present.any(dim=1)
        alive[each.channels[flags]] = True
    return alive


def _slices(module: nn.Module, group: ChannelGroup) -> tuple[Slice, ...]:
    found: list[Slice] = []
    for coupling in group.couplings:
        channels = torch.tensor(coupling.channels, dtype=torch.long)
        if bool((channels < 0).any()) or coupling.side == "parameter":
            raise ModelError(f"ga-pruning cannot follow the channels of {group.name} into {coupling.target}")
        layer = module.get_submodule(coupling.target)
        found.append(Slice(f"{coupling.target}.weight", int(coupling.side == "in"), channels, coupling.side))
        if coupling.side != "in" and getattr(layer, "bias", None) is not None:
            found.append(Slice(f"{coupling.target}.bias", 0, channels, coupling.side))
    return tuple(found)


def _map_sizes(module: nn.Module, input_shape: Sequence[int]) -> dict[str, int]:
    """Positions at which each convolution is applied (0 for linear layers), by path."""
    sizes: dict[str, int] = {}
    hooks = []
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            sizes[path] = 0
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1:

            def record(_layer: nn.Module, _inputs: object, output: Tensor, path: str = path) -> None:
                sizes[path] = output[0, 0].numel()

            sizes[path] = 0
            hooks.append(layer.register_forward_hook(record))
        elif not isinstance(layer, _BatchNorm) and next(layer.parameters(recurse=False), None) is not None:
            raise ModelError(
                f"ga-pruning takes plain convolutions, batch normalisations and linear layers; {path} is a"
                f" {type(layer).__name__}{' in groups' if isinstance(layer, nn.Conv2d) else ''}"
            )
    try:
        with evaluating(module):
            module(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return sizes
