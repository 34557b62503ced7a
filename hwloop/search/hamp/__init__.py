"""HAMP: memetic multi-objective pruning (Hong, Li, Liu, Yang, Tang, Fundamental Research 4(4), 2024).

What the paper says, as far as it could be read (its abstract): pruning for a device is a multi-objective problem of
accuracy, latency and memory; plain evolutionary algorithms search it too slowly; a *portfolio-based selection* and a
*surrogate-assisted local search* make a memetic algorithm of one that does not. Everything below is ours:

- `seeding`: a uniform ladder, greedy points on the cheap objectives, random points;
- `variation`: crossover of whole units and segments of the network, mutation in grains;
- `selection`: four environmental selections as orders (crowding, hypervolume, decomposition, epsilon indicator);
- `portfolio`: they vote on the next population, with weights that follow what parents gain on whom they disagree;
- `surrogate`: a Gaussian process for each expensive objective; cheap objectives are computed, never guessed;
- `local_search`, `neighbours`, `picking`: a walk over guesses, of which the few are evaluated that promise the most
  hypervolume together;
- `sources`: how many candidates are bred and how many searched, by what each gained lately;
- `algorithm`: the pymoo `Algorithm` that joins them; every part can be left out.
"""

from hwloop.search.hamp.algorithm import HAMP
from hwloop.search.hamp.local_search import LocalSearch
from hwloop.search.hamp.selection import SELECTORS, Selector
from hwloop.search.hamp.variation import Variation

__all__ = ["HAMP", "SELECTORS", "LocalSearch", "Selector", "Variation"]
