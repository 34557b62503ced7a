"""Published algorithms to search with, and to be measured against; one file each."""

from hwloop.search.baselines import nsga2 as nsga2  # registers itself
