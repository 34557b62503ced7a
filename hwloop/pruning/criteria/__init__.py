"""Which channels matter, one criterion per file, found by name."""

from hwloop.pruning.criteria.activation import Activation
from hwloop.pruning.criteria.bn_scale import BNScale
from hwloop.pruning.criteria.clad import CLAD
from hwloop.pruning.criteria.criterion import Criterion, Scores, WeightCriterion
from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.criteria.fpgm import FPGM
from hwloop.pruning.criteria.l1 import L1
from hwloop.pruning.criteria.l2 import L2
from hwloop.pruning.criteria.lfpc import LFPC
from hwloop.pruning.criteria.random import Random
from hwloop.pruning.criteria.registry import get_criterion, list_criteria, register_criterion
from hwloop.pruning.criteria.taylor import Taylor

__all__ = [
    "CLAD",
    "FPGM",
    "L1",
    "L2",
    "LFPC",
    "Activation",
    "BNScale",
    "Criterion",
    "Evidence",
    "Random",
    "Scores",
    "Taylor",
    "WeightCriterion",
    "get_criterion",
    "list_criteria",
    "register_criterion",
]
