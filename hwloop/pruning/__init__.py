"""Pruning: the space of widths and blocks, surgery, and the judge of pruned networks."""

from hwloop.pruning.adaptation import Adaptation, AdaptationConfig, adapt
from hwloop.pruning.blocks import FixedBlock, RemovableBlock
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.carrying import Carried, Carrier
from hwloop.pruning.criteria import Criterion, Evidence, get_criterion, list_criteria, register_criterion
from hwloop.pruning.estimate import ErrorEstimate, wilson_interval
from hwloop.pruning.evaluation import (
    FIDELITIES,
    FULL_FINE_TUNE,
    RECALIBRATED,
    SHARED_WEIGHTS,
    SHORT_FINE_TUNE,
    ErrorEstimator,
)
from hwloop.pruning.folding import fold, foldable_pairs
from hwloop.pruning.gating import gated
from hwloop.pruning.groups import ChannelGroup, Coupling, FixedGroup
from hwloop.pruning.held_out import HeldOut
from hwloop.pruning.masking import masked
from hwloop.pruning.ordering import channel_order, plan_surgery, rebuild
from hwloop.pruning.preparation import FineTuning, Preparation, Recalibration
from hwloop.pruning.racing import has_lost, limit_of, looks
from hwloop.pruning.ranking import Agreement, agreement
from hwloop.pruning.recalibration import recalibrate
from hwloop.pruning.sharing import SharedWeights
from hwloop.pruning.space import PruningSpace, pruning_space
from hwloop.pruning.surgery import SurgeryPlan

__all__ = [
    "FIDELITIES",
    "FULL_FINE_TUNE",
    "RECALIBRATED",
    "SHARED_WEIGHTS",
    "SHORT_FINE_TUNE",
    "Adaptation",
    "AdaptationConfig",
    "Agreement",
    "Candidate",
    "Carried",
    "Carrier",
    "ChannelGroup",
    "Coupling",
    "Criterion",
    "ErrorEstimate",
    "ErrorEstimator",
    "Evidence",
    "FineTuning",
    "FixedBlock",
    "FixedGroup",
    "HeldOut",
    "Preparation",
    "PruningSpace",
    "Recalibration",
    "RemovableBlock",
    "SharedWeights",
    "SurgeryPlan",
    "adapt",
    "agreement",
    "channel_order",
    "fold",
    "foldable_pairs",
    "gated",
    "get_criterion",
    "has_lost",
    "limit_of",
    "list_criteria",
    "looks",
    "masked",
    "plan_surgery",
    "pruning_space",
    "rebuild",
    "recalibrate",
    "register_criterion",
    "wilson_interval",
]
