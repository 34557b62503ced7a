"""The search for the networks that are best on one device."""

from hwloop.search import baselines as baselines  # registers the algorithms
from hwloop.search import netadapt as netadapt  # as above
from hwloop.search.algorithms import Recipe, list_algorithms, make_algorithm
from hwloop.search.backlog import Limits
from hwloop.search.cache import Cached
from hwloop.search.constraints import Constraint, parse_constraints
from hwloop.search.cpus import available_cpus, worker_count
from hwloop.search.driver import SearchResult, run_search
from hwloop.search.evaluation import BatchEvaluator, ErrorOf, ErrorResult, OneByOne
from hwloop.search.evaluators import open_evaluator
from hwloop.search.front import choose, front_of, nondominated
from hwloop.search.hamp import HAMP
from hwloop.search.hamp import registered as registered  # as above
from hwloop.search.hardware import HardwareLoop, Measured, Probe, Prober
from hwloop.search.initial import initial_indices
from hwloop.search.objectives import CostModel, Costs, Objective, get_objectives, list_objectives
from hwloop.search.problem import PruningProblem, SearchSpace
from hwloop.search.record import Evaluated, Fingerprint, Journal
from hwloop.search.structure import Cheap, Structure
from hwloop.search.synthetic import SyntheticPruning
from hwloop.search.workers import LocalWorkers

__all__ = [
    "HAMP",
    "BatchEvaluator",
    "Cached",
    "Cheap",
    "Constraint",
    "CostModel",
    "Costs",
    "ErrorOf",
    "ErrorResult",
    "Evaluated",
    "Fingerprint",
    "HardwareLoop",
    "Journal",
    "Limits",
    "LocalWorkers",
    "Measured",
    "Objective",
    "OneByOne",
    "Probe",
    "Prober",
    "PruningProblem",
    "Recipe",
    "SearchResult",
    "SearchSpace",
    "Structure",
    "SyntheticPruning",
    "available_cpus",
    "choose",
    "front_of",
    "get_objectives",
    "initial_indices",
    "list_algorithms",
    "list_objectives",
    "make_algorithm",
    "nondominated",
    "open_evaluator",
    "parse_constraints",
    "run_search",
    "worker_count",
]
