"""The search algorithms by name. Every one is a pymoo `Algorithm` and is driven by ask and tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.termination import NoTermination
from pymoo.util.display.output import Output

from hwloop.errors import UserError
from hwloop.search.problem import PruningProblem

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Start:
    """What a search begins with.

    Attributes:
        problem: what is searched.
        population: candidates per generation.
        initial: (k, G + B) level indices of the first generation, k <= population.
    """

    problem: PruningProblem
    population: int
    initial: IntArray


Factory = Callable[[Start], Any]
"""Makes a pymoo algorithm."""

_FACTORIES: dict[str, Factory] = {}


@dataclass(frozen=True)
class Recipe:
    """An algorithm with settings of one's own.

    Attributes:
        name: for the journal.
        make: its factory.
        settings: what the journal must agree on before it answers for this algorithm.
    """

    name: str
    make: Factory
    settings: Mapping[str, str] = field(default_factory=dict)


def register(name: str) -> Callable[[Factory], Factory]:
    """Make an algorithm known under a name.

    Raises:
        ValueError: the name is taken.
    """

    def keep(factory: Factory) -> Factory:
        if name in _FACTORIES:
            raise ValueError(f"two search algorithms are called {name!r}")
        _FACTORIES[name] = factory
        return factory

    return keep


def list_algorithms() -> tuple[str, ...]:
    """Names of all algorithms."""
    return tuple(_FACTORIES)


def make_algorithm(wanted: str | Recipe, problem: PruningProblem, population: int, seed: int, initial: IntArray) -> Any:
    """A pymoo algorithm that is ready to be asked.

    Args:
        wanted: one of `list_algorithms()`, or a recipe.
        problem: what is searched.
        population: its size.
        seed: of all its random choices.
        initial: (k, G + B) level indices of the first generation.

    Raises:
        UserError: there is no such algorithm, or it needs a package that is not installed.
    """
    if isinstance(wanted, str) and wanted not in _FACTORIES:
        raise UserError(f"there is no search algorithm {wanted!r}; known are {', '.join(_FACTORIES)}")
    make = _FACTORIES[wanted] if isinstance(wanted, str) else wanted.make
    algorithm = make(Start(problem, population, initial))
    # The driver counts generations; pymoo's own criterion would stop on a stalled front.
    algorithm.setup(problem, termination=NoTermination(), seed=seed, output=Output())
    return algorithm
