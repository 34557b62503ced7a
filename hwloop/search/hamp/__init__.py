"""HAMP: portfolio-based selection and surrogate-assisted local search (Hong et al. 2024)."""

from hwloop.search.hamp.algorithm import HAMP
from hwloop.search.hamp.local_search import LocalSearch
from hwloop.search.hamp.selection import SELECTORS, Selector
from hwloop.search.hamp.variation import Variation

__all__ = ["HAMP", "SELECTORS", "LocalSearch", "Selector", "Variation"]
