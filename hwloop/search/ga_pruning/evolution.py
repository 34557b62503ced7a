"""One round of evolution: from one network to a population of thinner ones, and to the fittest of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwloop.search.ga_pruning.anatomy import Anatomy, Genome
from hwloop.search.ga_pruning.operators import crossover, mutate
from hwloop.search.ga_pruning.settings import GaSettings

TOURNAMENT = 2
"""So many are drawn, the fittest of them becomes a parent."""


@dataclass(frozen=True)
class Individual:
    """A genome with its fitness; smaller is fitter."""

    genome: Genome
    fitness: float


def evolve(
    anatomy: Anatomy,
    elite: Genome,
    error: Callable[[Genome], float],
    settings: GaSettings,
    rng: np.random.Generator,
) -> Individual:
    """Evolve a population that descends from one genome.

    The genome itself and the fittest so far stay in the population.

    Args:
        anatomy: of the network.
        elite: the ancestor of all.
        error: of a genome on held-out images.
        settings: population, generations and coefficients.
        rng: of all choices.

    Returns:
        The fittest of all generations.
    """

    def judged(genome: Genome) -> Individual:
        settled = anatomy.settled(genome)
        census = anatomy.census(settled)
        return Individual(settled, settings.fitness(error(settled), census.computation_left, census.parameters_left))

    def mutant(genome: Genome) -> Genome:
        coarse = settings.granularity == "coarse"
        return mutate(anatomy, genome, rng, coarse=coarse, largest_cut=settings.largest_cut)

    def parent() -> Genome:
        drawn = rng.integers(len(population), size=TOURNAMENT)
        fittest = min((population[int(index)] for index in drawn), key=lambda one: one.fitness)
        return fittest.genome

    population: list[Individual] = [judged(elite), *(judged(mutant(elite)) for _ in range(settings.population - 1))]
    for _ in range(settings.generations - 1):
        best = min(population, key=lambda one: one.fitness)
        children = [mutant(crossover(anatomy, parent(), parent(), rng)) for _ in range(settings.population - 1)]
        population = [best, *map(judged, children)]
    return min(population, key=lambda one: one.fitness)


def evaluations(settings: GaSettings) -> int:
    """Genomes that one round evaluates."""
    return 1 + (settings.population - 1) * settings.generations
