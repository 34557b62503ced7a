"""GA pruning (Yang et al. 2019): the weights themselves evolve towards zero, and the best is retrained between rounds.

Its genomes are networks, not points of a pruning space, and no runtime runs faster for the zeros alone: so it is no
algorithm of the registry, and has a command of its own (`hwloop ga-pruning`).
"""

from hwloop.search.ga_pruning.anatomy import Anatomy, Census
from hwloop.search.ga_pruning.pruner import GaResult, Round, run_ga_pruning
from hwloop.search.ga_pruning.settings import EMPHASES, GaSettings

__all__ = ["EMPHASES", "Anatomy", "Census", "GaResult", "GaSettings", "Round", "run_ga_pruning"]
