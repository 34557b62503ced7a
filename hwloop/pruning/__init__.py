"""Pruning: the space of widths and blocks, surgery, and the judge of pruned networks."""

from hwloop.pruning.blocks import FixedBlock, RemovableBlock
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.carrying import Carried, Carrier
from hwloop.pruning.criteria import Criterion, Evidence, get_criterion, list_criteria, register_criterion
from hwloop.pruning.evaluation import ErrorEstimate, ErrorJudge, wilson_interval
from hwloop.pruning.folding import fold, foldable_pairs
from hwloop.pruning.gating import gated
from hwloop.pruning.groups import ChannelGroup, Coupling, FixedGroup
from hwloop.pruning.masking import masked
from hwloop.pruning.ordering import channel_order, plan_surgery, rebuild
from hwloop.pruning.recalibration import recalibrate
from hwloop.pruning.space import PruningSpace, pruning_space
from hwloop.pruning.surgery import SurgeryPlan

__all__ = [
    "Candidate",
    "Carried",
    "Carrier",
    "ChannelGroup",
    "Coupling",
    "Criterion",
    "ErrorEstimate",
    "ErrorJudge",
    "Evidence",
    "FixedBlock",
    "FixedGroup",
    "PruningSpace",
    "RemovableBlock",
    "SurgeryPlan",
    "channel_order",
    "fold",
    "foldable_pairs",
    "gated",
    "get_criterion",
    "list_criteria",
    "masked",
    "plan_surgery",
    "pruning_space",
    "rebuild",
    "recalibrate",
    "register_criterion",
    "wilson_interval",
]
