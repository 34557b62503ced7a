"""The search for the networks that are best on one device."""

from hwloop.search import baselines as baselines  # registers the algorithms
from hwloop.search import netadapt as netadapt  # as above
from hwloop.search.algorithms import Recipe, list_algorithms, make_algorithm
from hwloop.search.driver import SearchResult, run_search
from hwloop.search.evaluation import BatchEvaluator, ErrorResult, OneByOne
from hwloop.search.front import choose, front_of, nondominated
from hwloop.search.hamp import HAMP
from hwloop.search.hamp import registered as registered  # as above
from hwloop.search.initial import initial_indices
from hwloop.search.objectives import CostModel, Costs, Objective, get_objectives, list_objectives
from hwloop.search.problem import PruningProblem, SearchSpace
from hwloop.search.record import Evaluated, Fingerprint, Journal
from hwloop.search.structure import Cheap, Structure
from hwloop.search.synthetic import SyntheticPruning

__all__ = [
    "HAMP",
    "BatchEvaluator",
    "Cheap",
    "CostModel",
    "Costs",
    "ErrorResult",
    "Evaluated",
    "Fingerprint",
    "Journal",
    "Objective",
    "OneByOne",
    "PruningProblem",
    "Recipe",
    "SearchResult",
    "SearchSpace",
    "Structure",
    "SyntheticPruning",
    "choose",
    "front_of",
    "get_objectives",
    "initial_indices",
    "list_algorithms",
    "list_objectives",
    "make_algorithm",
    "nondominated",
    "run_search",
]
