"""Plan once, slice many times: physically smaller copies of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from hwloop.errors import ModelError
from hwloop.pruning.blocks import RemovableBlock
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.groups import ChannelGroup, Coupling
from hwloop.pruning.remainder import Remainders
from hwloop.pruning.skeleton import copied
from hwloop.pruning.tracing import is_depthwise

Order = Mapping[str, Sequence[int]]
"""By group name, its channels from the one that is kept longest to the one that goes first."""


@dataclass(frozen=True)
class _Follower:
    """One side of one module: the groups it follows, and where."""

    target: str
    side: str
    dim: int
    size: int
    whole: int | None  # index of the group where the side is that group, channel by channel
    parts: tuple[tuple[int, Tensor, Tensor], ...]  # else: group index, local indices, their channels


class SurgeryPlan:
    """Knows what to slice and what to leave out for any candidate of a network.

    The weights are read from the base network at each `apply`; it is never changed. Kept channels stay in their
    original order, so the result equals torch-pruning's own surgery bit for bit.

    Attributes:
        module: the base network.
        groups: in the order of the widths.
        blocks: that can be left out.
        order: by group name, the channels in the order of their importance. JSON-able; with it, the base weights and
            a candidate's text a network is rebuilt.
        ordered_by: what the order comes from (`Criterion.provenance`), "" where that is not known. Candidates of plans
            with different orders are different networks, whatever their texts.
    """

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[ChannelGroup],
        order: Order,
        blocks: Sequence[RemovableBlock] = (),
        ordered_by: str = "",
    ) -> None:
        """Prepare the index maps, and trace what remains without blocks.

        Raises:
            ModelError: An order that is no permutation of its group, or breaks the alignment that a grouped
                convolution needs; or groups or blocks of another network.
        """
        self.blocks = tuple(blocks)
        self._remainders = Remainders(module, self.blocks)
        self.module = module
        self.ordered_by = ordered_by
        self.groups = tuple(groups)
        self.order = {group.name: _checked_order(group, order) for group in self.groups}
        self._ranks = [torch.empty(group.width, dtype=torch.long) for group in self.groups]
        for rank, group in zip(self._ranks, self.groups, strict=True):
            rank[torch.tensor(self.order[group.name])] = torch.arange(group.width)
        self._modules = dict(module.named_modules())
        self._followers = _followers(self.groups)
        for follower in self._followers:
            self._check(follower)

    def on(self, module: nn.Module) -> SurgeryPlan:
        """Return the same plan for other weights: a network of the same structure.

        Raises:
            ModelError: It is of another structure.
        """
        return SurgeryPlan(module, self.groups, self.order, self.blocks, self.ordered_by)

    def kept(self, candidate: Candidate) -> dict[str, tuple[int, ...]]:
        """Return, by group name, the channels that a candidate's widths keep, ascending.

        Raises:
            ModelError: See `apply`.
        """
        masks = self._masks(candidate.widths)
        return {
            group.name: tuple(torch.nonzero(mask).flatten().tolist())
            for group, mask in zip(self.groups, masks, strict=True)
        }

    def apply(self, candidate: Candidate) -> nn.Module:
        """Return a smaller copy of the base network.

        Args:
            candidate: channels to keep of each group, in the order of `groups`, and the blocks that go.

        Returns:
            A module of the same class with its own, sliced parameters and corrected attributes (`out_channels`,
            `in_features`, `num_features`, …), in the base's mode and on its device. A removed block is an identity, or
            its shortcut; only where its sum is in a forward function with other work is the module that has it now a
            `torch.fx.GraphModule`, which may be the network itself.

        Raises:
            ModelError: A number of widths that is not that of the groups, or a width outside 1 to the group's width,
                or not a multiple of its divisor; a block that there is not.
        """
        masks = self._masks(candidate.widths)
        remainders = self._remainders.of(candidate.removed)
        gone = {path for block in self.blocks if block.name in candidate.removed for path in block.branch}
        whole = [torch.nonzero(mask).flatten() for mask in masks]
        followers = [each for each in self._followers if each.target not in gone]
        kept = [self._kept(follower, masks, whole) for follower in followers]
        replaced: dict[int, Tensor] = {}
        with torch.no_grad():
            for follower, indices in zip(followers, kept, strict=True):
                self._slice(follower, indices, replaced)
        substitutes = {id(self._modules[path]): remainder for path, remainder in remainders.items()}
        twin, memo = copied(self.module, replaced, substitutes)
        for follower, indices in zip(followers, kept, strict=True):
            layer = memo.get(id(self._modules[follower.target])) if follower.side != "parameter" else None
            if layer is not None:  # else only removed blocks need it
                _set_attributes(layer, follower.side, len(indices))
        return twin

    def _masks(self, widths: Sequence[int]) -> list[Tensor]:
        if len(widths) != len(self.groups):
            raise ModelError(f"{len(widths)} widths were given for {len(self.groups)} channel groups")
        for width, group in zip(widths, self.groups, strict=True):
            if not 1 <= width <= group.width or width % group.divisor:
                multiple = f" in multiples of {group.divisor}" if group.divisor > 1 else ""
                raise ModelError(f"{group.name}={width}: the width must be 1 to {group.width}{multiple}")
        return [rank < int(width) for rank, width in zip(self._ranks, widths, strict=True)]

    def _kept(self, follower: _Follower, masks: list[Tensor], whole: list[Tensor]) -> Tensor:
        """Return the local indices that stay, ascending."""
        if follower.whole is not None:
            return whole[follower.whole]
        local = torch.ones(follower.size, dtype=torch.bool)
        for group, indices, channels in follower.parts:
            local[indices] = masks[group][channels]
        return torch.nonzero(local).flatten()

    def _slice(self, follower: _Follower, kept: Tensor, replaced: dict[int, Tensor]) -> None:
        if follower.side == "parameter":
            owner, _, name = follower.target.rpartition(".")
            self._select(self._modules[owner], name, follower.dim, kept, replaced)
            return
        module = self._modules[follower.target]
        if follower.side == "in":
            if isinstance(module, _ConvNd) and module.groups > 1:
                kept = kept[: len(kept) // module.groups]  # all blocks keep the same positions as the first
            self._select(module, "weight", 0 if _transposed(module) else 1, kept, replaced)
            return
        depthwise = is_depthwise(module)
        self._select(module, "weight", 1 if _transposed(module) and not depthwise else 0, kept, replaced)
        for name in ("bias", "running_mean", "running_var"):
            self._select(module, name, 0, kept, replaced)

    def _select(self, module: nn.Module, name: str, dim: int, kept: Tensor, replaced: dict[int, Tensor]) -> None:
        original: Tensor | None = module._parameters.get(name)
        if original is None:
            original = module._buffers.get(name)
        if original is None:
            return
        now = replaced.get(id(original), original)
        taken = now.detach().index_select(dim, kept.to(now.device))
        replaced[id(original)] = (
            nn.Parameter(taken, original.requires_grad) if isinstance(original, nn.Parameter) else taken
        )

    def _check(self, follower: _Follower) -> None:
        if follower.side == "parameter":
            owner, _, name = follower.target.rpartition(".")
            parameter = self._modules[owner]._parameters.get(name) if owner in self._modules else None
            size = parameter.shape[follower.dim] if parameter is not None else None
        else:
            size = _side_size(self._modules.get(follower.target), follower.side)
        if size != follower.size:
            raise ModelError(
                f"{follower.target}: the pruning space is of another network (it expects {follower.size} channels, "
                f"{'there is no such layer' if size is None else f'the layer has {size}'})"
            )


def _checked_order(group: ChannelGroup, order: Order) -> tuple[int, ...]:
    channels = tuple(int(channel) for channel in order.get(group.name, ()))
    if sorted(channels) != list(range(group.width)):
        raise ModelError(f"{group.name}: its channel order is not a permutation of its {group.width} channels")
    block = group.width // group.divisor
    for start in range(0, group.width, group.divisor):
        if len({channel % block for channel in channels[start : start + group.divisor]}) > 1:
            raise ModelError(
                f"{group.name}: its channel order does not keep the {group.divisor} blocks of its grouped "
                "convolution aligned"
            )
    return channels


def _followers(groups: Sequence[ChannelGroup]) -> list[_Follower]:
    sides: dict[tuple[str, str, int], list[tuple[int, Coupling]]] = {}
    for index, group in enumerate(groups):
        for coupling in group.couplings:
            sides.setdefault((coupling.target, coupling.side, coupling.dim), []).append((index, coupling))
    followers = []
    for (target, side, dim), parts in sides.items():
        first_index, first = parts[0]
        identity = len(parts) == 1 and first.channels == tuple(range(groups[first_index].width))
        pieces = []
        for index, coupling in parts:
            channels = torch.tensor(coupling.channels, dtype=torch.long)
            local = torch.nonzero(channels >= 0).flatten()
            pieces.append((index, local, channels[local]))
        whole = first_index if identity else None
        followers.append(_Follower(target, side, dim, len(first.channels), whole, tuple(pieces)))
    return followers


def _transposed(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and module.transposed


def _side_size(module: nn.Module | None, side: str) -> int | None:
    if isinstance(module, _ConvNd):
        return module.in_channels if side == "in" else module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features if side == "in" else module.out_features
    if isinstance(module, _BatchNorm | _InstanceNorm):
        return module.num_features
    if isinstance(module, nn.PReLU):
        return module.num_parameters
    return None


def _set_attributes(module: nn.Module, side: str, size: int) -> None:
    if isinstance(module, _ConvNd):
        if side in ("out", "both"):
            module.out_channels = size
        if side in ("in", "both"):
            module.in_channels = size
        if side == "both":
            module.groups = size
    elif isinstance(module, nn.Linear):
        if side == "out":
            module.out_features = size
        else:
            module.in_features = size
    elif isinstance(module, _BatchNorm | _InstanceNorm):
        module.num_features = size
    elif isinstance(module, nn.PReLU):
        module.num_parameters = size
