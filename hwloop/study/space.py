"""The moves of a study: the pruning space, the surgery, and the network whose widths follow them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwloop.errors import StudyError
from hwloop.extraction import FusionRules, network_from_torch
from hwloop.layers import Network, ScalableNetwork
from hwloop.progress import Progress
from hwloop.pruning import Evidence, PruningSpace, SurgeryPlan, get_criterion, plan_surgery, pruning_space
from hwloop.study.base import Base
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory


@dataclass(frozen=True)
class Moves:
    """What can be pruned, and how.

    Attributes:
        space: groups of coupled channels and their allowed widths.
        surgery: slices the base network to given widths.
        network: the base as layers.
        scalable: the same with widths as variables.
    """

    space: PruningSpace
    surgery: SurgeryPlan
    network: Network
    scalable: ScalableNetwork

    def with_grain(self, grain: int) -> Moves:
        """The same moves in steps of `grain` channels."""
        return replace(self, space=self.space.with_grain(grain))


def find_moves(config: StudyConfig, base: Base, rules: FusionRules, study: StudyDirectory, progress: Progress) -> Moves:
    """Find the groups of coupled channels, and the base network's layers as `rules` join them; the grain is still 1.

    The predictor of a study knows widths alone so far, so its candidates keep all their blocks.

    The space and the channel order are kept in ``space.json``, with what the order comes from: with the base weights
    and a candidate's text they rebuild any network of the study.

    Raises:
        StudyError: the order that is kept comes from another criterion, or from other images.
        ModelError: the network cannot be traced or has nothing that can be pruned.
    """
    criterion = get_criterion(config.pruning.criterion, config.pruning.criterion_settings)
    evidence = Evidence.drawn(base.data.train, config.pruning.criterion_images, seed=config.study.seed)
    if study.has("space.json"):
        known = study.read_json("space.json")
        space = PruningSpace.from_record(known["space"])
        ordered_by = criterion.provenance(evidence)
        before = known.get("ordered_by", "unknown")
        if before != ordered_by:
            raise StudyError(
                f"{study.path('space.json')}: its channels are ordered by {before}, this study orders them by "
                f"{ordered_by}; set study.directory to another folder"
            )
        surgery = SurgeryPlan(base.module, space.groups, known["order"], space.blocks, ordered_by)
    else:
        minimum = config.pruning.minimum_fraction
        space = pruning_space(base.module, base.input_shape, grain=1, minimum_fraction=minimum).without_blocks()
        surgery = plan_surgery(base.module, space, criterion, evidence)
        progress.say(f"channels are ordered by {surgery.ordered_by}")
        study.write_json(
            "space.json",
            {"space": space.to_record(), "order": surgery.order, "ordered_by": surgery.ordered_by},
        )
    for fixed in space.fixed:
        progress.say(f"{fixed.name} keeps its width: {fixed.reason}")
    network = network_from_torch(base.module, base.input_shape, rules=rules)
    for node in network.unsupported:
        progress.say(f"layer {node.name} cannot be measured ({node.layer.detail}); latencies leave it out")
    return Moves(space, surgery, network, ScalableNetwork(network, [g.roots for g in space.groups]))
