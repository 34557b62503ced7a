"""In which order channels go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from hwloop.errors import ModelError
from hwloop.pruning.criteria import L1, Criterion, Evidence
from hwloop.pruning.criteria.ranking import ranked
from hwloop.pruning.groups import ChannelGroup
from hwloop.pruning.space import PruningSpace
from hwloop.pruning.surgery import SurgeryPlan

_L1 = L1()
_WEIGHTS_ALONE = Evidence()


def channel_order(
    module: nn.Module,
    groups: Sequence[ChannelGroup],
    criterion: Criterion = _L1,
    evidence: Evidence = _WEIGHTS_ALONE,
) -> dict[str, tuple[int, ...]]:
    """Order the channels of each group by importance; see `ranked` for ties and grouped convolutions.

    Args:
        module: the network; left untouched.
        groups: its channel groups.
        criterion: scores the channels.
        evidence: images and a seed, for the criteria that look at them.

    Returns:
        By group name, the channels from the one that is kept longest to the one that goes first.

    Raises:
        ModelError: The criterion needs images and has none, the network fails on them, or it gives something else than
            one finite number per channel.
    """
    scored = criterion.scores(module, groups, evidence)
    order = {}
    for group in groups:
        scores = scored[group.name]
        if scores.shape != (group.width,) or not np.isfinite(scores).all():
            raise ModelError(
                f"{group.name}: the criterion did not give {group.width} finite scores (are the weights finite?)"
            )
        order[group.name] = ranked(group, scores)
    return order


def plan_surgery(
    module: nn.Module,
    space: PruningSpace,
    criterion: Criterion = _L1,
    evidence: Evidence = _WEIGHTS_ALONE,
) -> SurgeryPlan:
    """Make the plan of a network's surgery, with channels ordered by a criterion.

    Raises:
        ModelError: The space is of another network, or the criterion fails.
    """
    order = channel_order(module, space.groups, criterion, evidence)
    return SurgeryPlan(module, space.groups, order, space.blocks, ordered_by=criterion.provenance(evidence))


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
