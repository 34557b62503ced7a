"""The candidates of a search: one absolute width per channel group, and the residual blocks that remain.

Widths are absolute numbers of channels, never ratios: a ratio that asks for too much is skipped in silence by
pruning tools, and a search finds and exploits that cliff.

The text of a candidate names every width, then every removed block behind a minus::

    conv1=16 layer1.0.conv1=8 layer2.0.conv2=24 -layer1.1 -layer1.2

Channels that are only in removed blocks have no width left: their groups are not written, and stand at their base width
in `Candidate.widths`, so that one network is one candidate. The weights of the base network, the order of the channels
and this text are all that is needed to build the network again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.errors import ModelError, UserError
from hwloop.pruning.blocks import FixedBlock, RemovableBlock
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.groups import ChannelGroup, FixedGroup
from hwloop.pruning.residuals import find_blocks
from hwloop.pruning.tracing import trace_groups
from hwloop.pruning.verification import verified, verified_blocks


@dataclass(frozen=True)
class PruningSpace:
    """The widths and blocks that a search may choose.

    Attributes:
        groups: whose widths are decision variables, in the order of the network's modules.
        blocks: that may be removed, each a decision variable, in the order of their sums.
        fixed: channels that keep their width, with the reason.
        fixed_blocks: residual blocks that stay, with the reason; the network itself where it cannot be traced.
        grain: widths are multiples of it (what the device rewards), besides the base width.
        minimum_fraction: of the base width, the least that stays.
        minimum: the least number of channels that stays.
    """

    groups: tuple[ChannelGroup, ...]
    fixed: tuple[FixedGroup, ...] = ()
    blocks: tuple[RemovableBlock, ...] = ()
    fixed_blocks: tuple[FixedBlock, ...] = ()
    grain: int = 1
    minimum_fraction: float = 0.1
    minimum: int = 1

    def __post_init__(self) -> None:
        if self.grain < 1:
            raise UserError(f"grain is {self.grain}: the step of the widths must be at least 1")
        if not 0 <= self.minimum_fraction <= 1:
            raise UserError(f"minimum_fraction is {self.minimum_fraction}: give a number from 0 to 1")
        if self.minimum < 1:
            raise UserError(f"minimum is {self.minimum}: at least one channel must stay")

    @property
    def base(self) -> Candidate:
        """Return the unpruned network."""
        return Candidate(tuple(group.width for group in self.groups))

    @property
    def smallest(self) -> Candidate:
        """Return the candidate that has the least of everything."""
        return self.candidate([levels[0] for levels in self._levels], [False] * len(self.blocks))

    def levels(self, group: int) -> tuple[int, ...]:
        """Return the widths that group number `group` may have, ascending.

        They are the multiples of the grain (and of the group's divisor) from the minimum up, and the base width.
        """
        return self._levels[group]

    @cached_property
    def _levels(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self._levels_of(group) for group in self.groups)

    def _levels_of(self, group: ChannelGroup) -> tuple[int, ...]:
        step = math.lcm(self.grain, group.divisor)
        least = max(self.grain, self.minimum, math.ceil(self.minimum_fraction * group.width))
        first = math.ceil(least / step) * step
        return (*range(first, group.width, step), group.width)

    @cached_property
    def _lost_with(self) -> tuple[frozenset[str], ...]:
        """For each group, names of the blocks that hold all its layers between them; empty: some are in none."""
        owners = {layer: block.name for block in self.blocks for layer in block.layers}
        return tuple(
            frozenset(owners[root] for root in group.roots) if owners.keys() >= set(group.roots) else frozenset()
            for group in self.groups
        )

    @property
    def size(self) -> int:
        """Return the number of choices of widths and blocks (of which several may be one candidate)."""
        return math.prod([*(len(levels) for levels in self._levels), *(2 for _ in self.blocks)])

    def candidate(self, widths: Sequence[int], remains: Sequence[bool] | None = None) -> Candidate:
        """Return the candidate of these widths, and of these flags of the blocks that remain (all, without flags).

        Raises:
            UserError: The wrong number of widths or flags.
        """
        flags = [True] * len(self.blocks) if remains is None else list(remains)
        if len(widths) != len(self.groups) or len(flags) != len(self.blocks):
            raise UserError(
                f"{len(widths)} widths and {len(flags)} blocks were given for {len(self.groups)} channel groups and "
                f"{len(self.blocks)} blocks"
            )
        removed = tuple(block.name for block, flag in zip(self.blocks, flags, strict=True) if not flag)
        kept = list(map(int, widths))
        for index in self._lost(removed):
            kept[index] = self.groups[index].width
        return Candidate(tuple(kept), removed)

    def remains(self, candidate: Candidate) -> tuple[bool, ...]:
        """Return for each block whether a candidate has it."""
        return tuple(block.name not in candidate.removed for block in self.blocks)

    def arrays(self, candidates: Sequence[Candidate]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the (n, G) widths and the (n, B) flags of the blocks that remain, as `ScalableNetwork` takes them."""
        widths = np.array([candidate.widths for candidate in candidates], np.int64)
        remains = np.array([self.remains(candidate) for candidate in candidates], np.bool_)
        return widths.reshape(len(candidates), len(self.groups)), remains.reshape(len(candidates), len(self.blocks))

    def contains(self, candidate: Candidate) -> bool:
        """Return whether every width is a level of its group, and the candidate is written as `candidate` does."""
        if len(candidate.widths) != len(self.groups):
            return False
        on_grid = all(width in levels for width, levels in zip(candidate.widths, self._levels, strict=True))
        return on_grid and self.candidate(candidate.widths, self.remains(candidate)) == candidate

    def from_indices(self, indices: Sequence[int]) -> Candidate:
        """Return the candidate at these positions: of the levels of each group, then 0 or 1 for each block.

        Raises:
            IndexError: A position outside the levels.
        """
        count = len(self.groups)
        for index, levels in zip(indices[:count], self._levels, strict=True):
            if not 0 <= index < len(levels):
                raise IndexError(f"level {index} of {len(levels)}")
        widths = [levels[index] for index, levels in zip(indices[:count], self._levels, strict=True)]
        return self.candidate(widths, [bool(index) for index in indices[count:]])

    def to_indices(self, candidate: Candidate) -> tuple[int, ...]:
        """Return the position of each width among the levels of its group, then 1 for each block that remains, else 0.

        Raises:
            UserError: A width that is no level.
        """
        for width, group, levels in zip(candidate.widths, self.groups, self._levels, strict=True):
            if width not in levels:
                raise UserError(
                    f"{group.name}={width} is not on the grid of {self.grain}: it can be {', '.join(map(str, levels))}"
                )
        places = [levels.index(width) for width, levels in zip(candidate.widths, self._levels, strict=True)]
        return (*places, *map(int, self.remains(candidate)))

    def random(self, rng: np.random.Generator) -> Candidate:
        """Draw a candidate: every level of a group is equally likely, every block stays or goes with equal chances."""
        widths = [levels[int(rng.integers(len(levels)))] for levels in self._levels]
        return self.candidate(widths, [bool(rng.integers(2)) for _ in self.blocks])

    def text(self, candidate: Candidate) -> str:
        """Return a candidate as text, for example "conv1=16 layer1.0.conv1=8 -layer1.1"."""
        widths = [
            f"{group.name}={width}"
            for index, (group, width) in enumerate(zip(self.groups, candidate.widths, strict=True))
            if not self._is_lost(index, candidate.removed)
        ]
        return " ".join([*widths, *(f"-{name}" for name in candidate.removed)])

    def parse(self, text: str) -> Candidate:
        """Read a candidate's text; widths off the grid are read too (`contains` tells).

        Raises:
            UserError: A group or block that is unknown, missing or given twice, or a width that the network cannot
                have.
        """
        removed = [part.removeprefix("-") for part in text.split() if part.startswith("-") and "=" not in part]
        self._check_removed(removed)
        given: dict[str, int] = {}
        known = {group.name: group for group in self.groups}
        for part in text.split():
            if part.startswith("-") and "=" not in part:
                continue
            name, equals, number = part.rpartition("=")
            if not equals or not number.isascii() or not number.isdigit():
                raise UserError(f"{part!r} is not of the form name=width, or -block")
            if name not in known:
                raise UserError(f"{part!r}: no channel group is named {name!r}; there are {', '.join(known)}")
            if name in given:
                raise UserError(f"{part!r}: the width of {name!r} is given twice")
            group, width = known[name], int(number)
            if not 1 <= width <= group.width or width % group.divisor:
                multiple = f", in multiples of {group.divisor}" if group.divisor > 1 else ""
                raise UserError(f"{part!r}: the width must be 1 to {group.width}{multiple}")
            given[name] = width
        for index, group in enumerate(self.groups):
            if self._is_lost(index, removed):
                given.setdefault(group.name, group.width)
        missing = [name for name in known if name not in given]
        if missing:
            raise UserError(f"the widths of {', '.join(missing)} are missing")
        return self.candidate([given[name] for name in known], [block.name not in removed for block in self.blocks])

    def _check_removed(self, removed: Sequence[str]) -> None:
        known = [block.name for block in self.blocks]
        for position, name in enumerate(removed):
            if name not in known:
                there = f"there are {', '.join(known)}" if known else "this network has none"
                raise UserError(f"'-{name}': no removable block is named {name!r}; {there}")
            if name in removed[:position]:
                raise UserError(f"'-{name}': the block is removed twice")

    def _lost(self, removed: tuple[str, ...]) -> tuple[int, ...]:
        """Numbers of the groups whose layers are all in removed blocks; a search asks for the same blocks again."""
        found = self._known_lost.get(removed)
        if found is None:
            found = tuple(group for group in range(len(self.groups)) if self._is_lost(group, removed))
            self._known_lost[removed] = found
        return found

    @cached_property
    def _known_lost(self) -> dict[tuple[str, ...], tuple[int, ...]]:
        return {}

    def _is_lost(self, group: int, removed: Collection[str]) -> bool:
        """Whether all layers of a group are in removed blocks."""
        holders = self._lost_with[group]
        return bool(holders) and holders <= set(removed)

    def without_blocks(self) -> PruningSpace:
        """Return the same space of widths alone."""
        return replace(self, blocks=(), fixed_blocks=())

    def with_grain(self, grain: int) -> PruningSpace:
        """Return the same space with another step of the widths."""
        return replace(self, grain=grain)

    def to_record(self) -> dict[str, Any]:
        """Return the space as JSON-able data."""
        return {
            "groups": [group.to_record() for group in self.groups],
            "fixed": [{"name": group.name, "reason": group.reason, "roots": list(group.roots)} for group in self.fixed],
            "blocks": [block.to_record() for block in self.blocks],
            "fixed_blocks": [{"name": block.name, "reason": block.reason} for block in self.fixed_blocks],
            "grain": self.grain,
            "minimum_fraction": self.minimum_fraction,
            "minimum": self.minimum,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> PruningSpace:
        """Read what `to_record` wrote."""
        return cls(
            groups=tuple(ChannelGroup.from_record(group) for group in record["groups"]),
            fixed=tuple(FixedGroup(group["name"], group["reason"], tuple(group["roots"])) for group in record["fixed"]),
            blocks=tuple(RemovableBlock.from_record(block) for block in record["blocks"]),
            fixed_blocks=tuple(FixedBlock(block["name"], block["reason"]) for block in record["fixed_blocks"]),
            grain=record["grain"],
            minimum_fraction=record["minimum_fraction"],
            minimum=record["minimum"],
        )


def pruning_space(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    grain: int = 1,
    minimum_fraction: float = 0.1,
    minimum: int = 1,
) -> PruningSpace:
    """Find and verify the channel groups and the removable blocks of a network.

    Args:
        module: any network of one image input; left untouched.
        input_shape: (channels, height, width).
        grain: step of the widths.
        minimum_fraction: of each width, the least that stays.
        minimum: the least number of channels that stays.

    Returns:
        The space; every group in it has been sliced, every block removed, and the result compared with the masked
        network. A network whose forward function `torch.fx` cannot trace has no blocks; `fixed_blocks` says why.

    Raises:
        ModelError: The network cannot be traced by torch-pruning, or has nothing that can be pruned.
        UserError: A grain or minimum out of range.
    """
    settings = PruningSpace((), grain=grain, minimum_fraction=minimum_fraction, minimum=minimum)
    traced, untraceable = trace_groups(module, input_shape)
    finest = replace(settings, grain=1)  # the grain may be changed later: verify what it could become
    groups, failed = verified(module, input_shape, traced, lambda group: finest._levels_of(group)[0])
    order = [path for path, _ in module.named_modules()]
    fixed = tuple(sorted((*untraceable, *failed), key=lambda group: order.index(group.name)))
    found, standing = find_blocks(module, input_shape)
    blocks, refused = verified_blocks(module, input_shape, found, groups)
    if not groups and not blocks:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in fixed[:3]) or "it has no such layers"
        raise ModelError(f"{type(module).__name__} has no channels that can be pruned: {reasons}")
    return replace(settings, groups=groups, fixed=fixed, blocks=blocks, fixed_blocks=(*standing, *refused))
