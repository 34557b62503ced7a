"""The candidates of a search: one absolute width per channel group.

Widths are absolute numbers of channels, never ratios: a ratio that asks for too much is skipped in silence by
pruning tools, and a search finds and exploits that cliff.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from hwloop.errors import ModelError, UserError
from hwloop.pruning.groups import ChannelGroup, FixedGroup
from hwloop.pruning.tracing import trace_groups
from hwloop.pruning.verification import verified

Widths = tuple[int, ...]


@dataclass(frozen=True)
class PruningSpace:
    """The widths that a search may choose.

    Attributes:
        groups: the decision variables, in the order of the network's modules.
        fixed: channels that keep their width, with the reason.
        grain: widths are multiples of it (what the device rewards), besides the base width.
        minimum_fraction: of the base width, the least that stays.
        minimum: the least number of channels that stays.
    """

    groups: tuple[ChannelGroup, ...]
    fixed: tuple[FixedGroup, ...] = ()
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
    def base(self) -> Widths:
        """Return the widths of the unpruned network."""
        return tuple(group.width for group in self.groups)

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

    @property
    def size(self) -> int:
        """Return the number of candidates."""
        return math.prod(len(levels) for levels in self._levels)

    def contains(self, widths: Sequence[int]) -> bool:
        """Return whether every width is a level of its group."""
        return len(widths) == len(self.groups) and all(
            width in levels for width, levels in zip(widths, self._levels, strict=True)
        )

    def from_indices(self, indices: Sequence[int]) -> Widths:
        """Return the widths at these positions of the levels.

        Raises:
            IndexError: A position outside the levels.
        """
        for index, levels in zip(indices, self._levels, strict=True):
            if not 0 <= index < len(levels):
                raise IndexError(f"level {index} of {len(levels)}")
        return tuple(levels[index] for index, levels in zip(indices, self._levels, strict=True))

    def to_indices(self, widths: Sequence[int]) -> tuple[int, ...]:
        """Return the position of each width among the levels of its group.

        Raises:
            UserError: A width that is no level.
        """
        for width, group, levels in zip(widths, self.groups, self._levels, strict=True):
            if width not in levels:
                raise UserError(
                    f"{group.name}={width} is not on the grid of {self.grain}: it can be {', '.join(map(str, levels))}"
                )
        return tuple(levels.index(width) for width, levels in zip(widths, self._levels, strict=True))

    def random(self, rng: np.random.Generator) -> Widths:
        """Draw a candidate: every level of a group is equally likely."""
        return tuple(levels[int(rng.integers(len(levels)))] for levels in self._levels)

    def text(self, widths: Sequence[int]) -> str:
        """Return a candidate as text, for example "conv1=16 layer1.0.conv1=8"."""
        return " ".join(f"{group.name}={width}" for group, width in zip(self.groups, widths, strict=True))

    def parse(self, text: str) -> Widths:
        """Read a candidate's text; widths off the grid are read too (`contains` tells).

        Raises:
            UserError: A group that is unknown, missing or given twice, or a width that the network cannot have.
        """
        given: dict[str, int] = {}
        known = {group.name: group for group in self.groups}
        for part in text.split():
            name, equals, number = part.rpartition("=")
            if not equals or not number.isascii() or not number.isdigit():
                raise UserError(f"{part!r} is not of the form name=width")
            if name not in known:
                raise UserError(f"{part!r}: no channel group is named {name!r}; there are {', '.join(known)}")
            if name in given:
                raise UserError(f"{part!r}: the width of {name!r} is given twice")
            group, width = known[name], int(number)
            if not 1 <= width <= group.width or width % group.divisor:
                multiple = f", in multiples of {group.divisor}" if group.divisor > 1 else ""
                raise UserError(f"{part!r}: the width must be 1 to {group.width}{multiple}")
            given[name] = width
        missing = [name for name in known if name not in given]
        if missing:
            raise UserError(f"the widths of {', '.join(missing)} are missing")
        return tuple(given[name] for name in known)

    def with_grain(self, grain: int) -> PruningSpace:
        """Return the same space with another step of the widths."""
        return replace(self, grain=grain)

    def to_record(self) -> dict[str, Any]:
        """Return the space as JSON-able data."""
        return {
            "groups": [group.to_record() for group in self.groups],
            "fixed": [{"name": group.name, "reason": group.reason, "roots": list(group.roots)} for group in self.fixed],
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
    """Find and verify the channel groups of a network.

    Args:
        module: any network of one image input; left untouched.
        input_shape: (channels, height, width).
        grain: step of the widths.
        minimum_fraction: of each width, the least that stays.
        minimum: the least number of channels that stays.

    Returns:
        The space; every group in it has been sliced and compared with the masked network.

    Raises:
        ModelError: The network cannot be traced, or has no channels that can be pruned.
        UserError: A grain or minimum out of range.
    """
    settings = PruningSpace((), (), grain, minimum_fraction, minimum)
    traced, untraceable = trace_groups(module, input_shape)
    finest = replace(settings, grain=1)  # the grain may be changed later: verify what it could become
    groups, failed = verified(module, input_shape, traced, lambda group: finest._levels_of(group)[0])
    order = [path for path, _ in module.named_modules()]
    fixed = tuple(sorted((*untraceable, *failed), key=lambda group: order.index(group.name)))
    if not groups:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in fixed[:3]) or "it has no such layers"
        raise ModelError(f"{type(module).__name__} has no channels that can be pruned: {reasons}")
    return replace(settings, groups=groups, fixed=fixed)
