"""MOEA/D (Zhang, Li 2007), pymoo's variant that proposes a whole generation at once, on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.moead import ParallelMOEAD
from pymoo.core.decomposition import Decomposition
from pymoo.decomposition.tchebicheff import Tchebicheff

from hwloop.search.algorithms import Start, register
from hwloop.search.baselines.integers import variation
from hwloop.search.directions import directions

FloatArray = NDArray[np.float64]

NEIGHBOURS = 10


@register("moead")
def moead(start: Start) -> Any:
    """MOEA/D with Tchebycheff values and one member for each reference direction (at most `population`)."""
    weights = directions(start.problem.n_obj, min(start.population, len(start.initial)))
    return _ScaledMOEAD(
        weights,
        n_neighbors=min(NEIGHBOURS, len(weights)),
        decomposition=_Scaled(),
        sampling=start.initial[: len(weights)],
        **variation(),
    )


class _Scaled(Decomposition):  # type: ignore[misc]  # pymoo has no types
    """Tchebycheff values of objectives that are divided by a scale: milliseconds and bytes weigh alike."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: FloatArray | None = None
        self._plain = Tchebicheff()

    def do(self, values: FloatArray, weights: FloatArray, ideal_point: FloatArray, **options: Any) -> Any:
        assert self.scale is not None
        return self._plain.do(values / self.scale, weights, ideal_point=ideal_point / self.scale, **options)


class _ScaledMOEAD(ParallelMOEAD):  # type: ignore[misc]  # pymoo has no types
    """Scales by the range of its members."""

    def _initialize_advance(self, infills: Any = None, **kwargs: Any) -> None:
        super()._initialize_advance(infills, **kwargs)
        self._rescale()

    def _advance(self, infills: Any = None, **kwargs: Any) -> None:
        super()._advance(infills, **kwargs)
        self._rescale()

    def _rescale(self) -> None:
        span = np.ptp(np.asarray(self.pop.get("F"), dtype=np.float64), axis=0)
        self.decomposition.scale = np.where(span > 0, span, 1.0)
