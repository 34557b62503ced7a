"""The moves of a study: the pruning space, the surgery, and the network whose widths and blocks follow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from hwloop.errors import ModelError, StudyError
from hwloop.extraction import FusionRules
from hwloop.extraction.blocks import Branch, blocks_from_torch
from hwloop.layers import Network, ScalableNetwork
from hwloop.progress import Progress
from hwloop.pruning import FixedBlock, PruningSpace, SurgeryPlan, plan_surgery, pruning_space
from hwloop.study.base import Base
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory

MINIMUM_FRACTION = 0.125


@dataclass(frozen=True)
class Moves:
    """What can be pruned, and how.

    Attributes:
        space: groups of coupled channels with their allowed widths, and the blocks that may go.
        surgery: slices the base network to given widths, and takes blocks out.
        network: the base as layers.
        scalable: the same with widths and blocks as variables, in the order of the space's.
    """

    space: PruningSpace
    surgery: SurgeryPlan
    network: Network
    scalable: ScalableNetwork

    def with_grain(self, grain: int) -> Moves:
        """The same moves in steps of `grain` channels."""
        return replace(self, space=self.space.with_grain(grain))


def open_space(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    rules: FusionRules,
    *,
    grain: int,
    minimum_fraction: float = MINIMUM_FRACTION,
) -> Moves:
    """Find the groups of coupled channels and the removable blocks of a network, and its layers as `rules` join them.

    A block whose removal makes the runtime execute what cannot be told from the layers stays; `space.fixed_blocks`
    says why.

    Raises:
        ModelError: the network cannot be traced or exported, or has nothing that can be pruned.
    """
    space = pruning_space(module, input_shape, grain=grain, minimum_fraction=minimum_fraction)
    try:
        scalable = _scalable(module, input_shape, space, rules)
    except ModelError as error:
        if not space.blocks:
            raise
        stay = tuple(FixedBlock(block.name, str(error)) for block in space.blocks)
        space = replace(space.without_blocks(), fixed_blocks=(*space.fixed_blocks, *stay))
        if not space.groups:
            raise
        scalable = _scalable(module, input_shape, space, rules)
    return Moves(space, plan_surgery(module, space), scalable.network, scalable)


def find_moves(config: StudyConfig, base: Base, rules: FusionRules, study: StudyDirectory, progress: Progress) -> Moves:
    """The moves of a study; the grain is still 1.

    The space and the channel order are kept in ``space.json``: with the base weights and a candidate's text they
    rebuild any network of the study. A study that began with widths alone goes on with widths alone.

    Raises:
        ModelError: the network cannot be traced or has nothing that can be pruned.
        StudyError: ``space.json`` is of another version of hwloop, or of another network.
    """
    if study.has("space.json"):
        space, order = _known(study.read_json("space.json"), study)
        surgery = SurgeryPlan(base.module, space.groups, order, space.blocks)
        scalable = _scalable(base.module, base.input_shape, space, rules)
        moves = Moves(space, surgery, scalable.network, scalable)
    else:
        minimum = config.pruning.minimum_fraction
        moves = open_space(base.module, base.input_shape, rules, grain=1, minimum_fraction=minimum)
        study.write_json("space.json", {"space": moves.space.to_record(), "order": moves.surgery.order})
    for fixed in moves.space.fixed:
        progress.say(f"{fixed.name} keeps its width: {fixed.reason}")
    for block in moves.space.fixed_blocks:
        progress.say(f"block {block.name} stays: {block.reason}")
    for node in moves.network.unsupported:
        progress.say(f"layer {node.name} cannot be measured ({node.layer.detail}); latencies leave it out")
    return moves


def _known(record: Any, study: StudyDirectory) -> tuple[PruningSpace, Mapping[str, Sequence[int]]]:
    try:
        return PruningSpace.from_record(record["space"]), record["order"]
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"{study.path('space.json')}: is damaged or of an older hwloop ({error!r}); set study.directory to another"
            " folder and begin the study again"
        ) from error


def _scalable(
    module: nn.Module, input_shape: tuple[int, int, int], space: PruningSpace, rules: FusionRules
) -> ScalableNetwork:
    branches = [Branch(block.name, frozenset(block.layers), block.drops_activation) for block in space.blocks]
    found = blocks_from_torch(module, input_shape, branches, rules=rules)
    return ScalableNetwork(found.network, [group.roots for group in space.groups], found.blocks, found.alternatives)
