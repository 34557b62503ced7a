"""The decisions of NetAdapt, pure: the targets, the proposals and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hwloop.pruning import Candidate
from hwloop.search.netadapt.settings import NetAdaptSettings
from hwloop.search.problem import SearchSpace

Resource = Callable[[Sequence[Candidate]], Sequence[float]]
"""Candidates to what each needs of the resource."""

# The two constants of the released code's ratio.
_LOSS_FLOOR = 1e-6
_SAVING_FLOOR = 1e-5


@dataclass(frozen=True)
class Proposal:
    """A network of the loop with what it needs.

    Attributes:
        candidate: the network.
        resource: what it needs, in the resource's unit.
    """

    candidate: Candidate
    resource: float


def reduction(settings: NetAdaptSettings, base: float, iteration: int) -> float:
    """How much iteration 1, 2, … must save, in the resource's unit: the step, decayed once per iteration."""
    return settings.step * base * settings.decay ** (iteration - 1)


def propose(space: SearchSpace, current: Candidate, target: float, resource: Resource) -> tuple[Proposal, ...]:
    """Cut each group alone, level by level, until the network needs less than the target.

    A group that cannot reach the target is proposed at its thinnest level; one that is there already is not proposed.
    The resource is asked for one level of all unfinished groups at once, so a device measures no more networks than the
    loop looks at.

    Args:
        space: the levels.
        current: the network to cut.
        target: of the resource.
        resource: what candidates need.

    Returns:
        At most one proposal per group, in the order of the groups.
    """
    blocks = [block.name not in current.removed for block in space.blocks]
    lower = {
        group: [level for level in reversed(space.levels(group)) if level < width]
        for group, width in enumerate(current.widths)
    }
    found: dict[int, Proposal] = {}
    open_groups = [group for group, levels in lower.items() if levels]
    depth = 0
    while open_groups:
        cuts = {}
        for group in open_groups:
            widths = list(current.widths)
            widths[group] = lower[group][depth]
            cuts[group] = space.candidate(widths, blocks)
        needs = resource(list(cuts.values()))
        found |= {group: Proposal(cut, float(need)) for (group, cut), need in zip(cuts.items(), needs, strict=True)}
        depth += 1
        open_groups = [group for group in open_groups if found[group].resource >= target and depth < len(lower[group])]
    # The group of channels that are in removed blocks only changes nothing.
    return tuple(found[group] for group in sorted(found) if found[group].candidate != current)


def select(
    settings: NetAdaptSettings,
    current: Proposal,
    error: float,
    proposals: Sequence[Proposal],
    errors: Sequence[float],
    target: float,
) -> Proposal | None:
    """The next network.

    Proposals that reach the target go before those that do not; among the latter the resource must at least have
    fallen. Of equal proposals the one that needs less wins, then the first.

    Args:
        settings: say what is best.
        current: the network that the proposals were cut from.
        error: its share of wrong answers.
        proposals: what it can become.
        errors: of each, after its short-term fine-tune.
        target: of the resource.

    Returns:
        The choice; None when no proposal needs less than the current network.
    """
    judged = [pair for pair in zip(proposals, errors, strict=True) if pair[0].resource < current.resource]
    reached = [pair for pair in judged if pair[0].resource < target]

    def badness(pair: tuple[Proposal, float]) -> tuple[float, float]:
        proposal, found = pair
        if settings.select == "accuracy":
            return found, proposal.resource
        saving = current.resource - proposal.resource
        return (found - error + _LOSS_FLOOR) / (saving + _SAVING_FLOOR), proposal.resource

    best = min(reached or judged, key=badness, default=None)
    return None if best is None else best[0]
