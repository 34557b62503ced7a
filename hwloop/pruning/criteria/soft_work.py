"""How much of a network's work is left behind gates, as a function that can be derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from hwloop.pruning.groups import ChannelGroup


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear layer: its share of all work, and by group the places on each side that have gates."""

    share: float
    sides: tuple[tuple[tuple[str, Tensor, int], ...], ...]  # per side: (group, channels of its places, size of side)


class SoftWork:
    """The multiply-accumulates of convolutions and linear layers behind gates, as a share of the unpruned network's.

    A layer's work is proportional to what is left of its inputs times what is left of its outputs; what is left of one
    side is the mean of its gates. With gates of zero and one this is the sliced network's share exactly.

    Args:
        module: the network, in evaluation mode.
        groups: its channel groups.
        images: (n, c, h, w), run through it once.

    Attributes:
        total: multiply-accumulates of the unpruned network on these images.
    """

    def __init__(self, module: nn.Module, groups: Sequence[ChannelGroup], images: Tensor) -> None:
        work = _macs(module, images)
        total = sum(work.values())
        sides: dict[str, dict[str, list[tuple[str, Tensor, int]]]] = {}
        for group in groups:
            for coupling in dict.fromkeys(group.couplings):
                if coupling.target in work:
                    channels = torch.tensor(coupling.channels, device=images.device)
                    place = (group.name, channels[channels >= 0], len(channels))
                    sides.setdefault(coupling.target, {}).setdefault(coupling.side, []).append(place)
        self.total = total
        self._layers = [
            _Layer(macs / total, tuple(tuple(places) for places in sides.get(path, {}).values()))
            for path, macs in work.items()
        ]

    def __call__(self, gates: Mapping[str, Tensor]) -> Tensor:
        """Return the share of the work that is left, a scalar.

        Args:
            gates: by group name, (width,) factors of 0 to 1.
        """
        left = torch.zeros((), device=next(iter(gates.values())).device)
        for layer in self._layers:
            part = left.new_tensor(layer.share)
            for side in layer.sides:
                gone = torch.stack([(1 - gates[group][channels]).sum() / size for group, channels, size in side])
                part = part * (1 - gone.sum())
            left = left + part
        return left


def _macs(module: nn.Module, images: Tensor) -> dict[str, int]:
    """Return the multiply-accumulates per pass of each convolution and linear layer, by path."""
    found: dict[str, int] = {}
    hooks = []

    def counter(path: str) -> object:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weight: Tensor = layer.weight  # type: ignore[assignment]  # a parameter, or computed from others
            places = inputs[0] if getattr(layer, "transposed", False) else output
            found[path] = found.get(path, 0) + places.numel() * weight[0].numel()

        return count

    try:
        for path, layer in module.named_modules():
            if isinstance(layer, _ConvNd | nn.Linear):
                hooks.append(layer.register_forward_hook(counter(path)))  # type: ignore[arg-type]  # torch: of any output
        with torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found
