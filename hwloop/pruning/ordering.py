"""In which order channels go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from hwloop.errors import ModelError
from hwloop.pruning.criteria import Criterion, l1_scores
from hwloop.pruning.groups import ChannelGroup
from hwloop.pruning.space import PruningSpace
from hwloop.pruning.surgery import SurgeryPlan


def channel_order(
    module: nn.Module, groups: Sequence[ChannelGroup], criterion: Criterion = l1_scores
) -> dict[str, tuple[int, ...]]:
    """Order the channels of each group by importance.

    Where grouped convolutions demand it, channels at the same place of each block stay or go together, by the sum of
    their scores.

    Args:
        module: the network.
        groups: its channel groups.
        criterion: scores the channels; ties go by index.

    Returns:
        By group name, the channels from the one that is kept longest to the one that goes first.

    Raises:
        ModelError: The criterion gives something else than one finite number per channel.
    """
    order = {}
    for group in groups:
        scores = criterion(module, group)
        if scores.shape != (group.width,) or not np.isfinite(scores).all():
            raise ModelError(
                f"{group.name}: the criterion did not give {group.width} finite scores (are the weights finite?)"
            )
        block = group.width // group.divisor
        positions = np.argsort(-scores.reshape(group.divisor, block).sum(axis=0), kind="stable")
        order[group.name] = tuple(
            int(part * block + position) for position in positions for part in range(group.divisor)
        )
    return order


def plan_surgery(module: nn.Module, space: PruningSpace, criterion: Criterion = l1_scores) -> SurgeryPlan:
    """Make the plan of a network's surgery, with channels ordered by a criterion.

    Raises:
        ModelError: The space is of another network, or the criterion fails.
    """
    return SurgeryPlan(module, space.groups, channel_order(module, space.groups, criterion), space.blocks)


def rebuild(module: nn.Module, space: PruningSpace, order: dict[str, Sequence[int]], text: str) -> nn.Module:
    """Build a candidate again from what is stored of it: base weights, channel order, text. No pickles.

    Args:
        module: the base network with its weights; left untouched.
        space: its pruning space (`PruningSpace.from_record`, or found again by `pruning_space`).
        order: `SurgeryPlan.order`, as stored.
        text: `PruningSpace.text` of the candidate.

    Returns:
        The pruned network, its weights those of the base.

    Raises:
        UserError: The text is no candidate of the space.
        ModelError: Space or order are of another network.
    """
    return SurgeryPlan(module, space.groups, order, space.blocks).apply(space.parse(text))
