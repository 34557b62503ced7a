"""Several algorithms on one problem: hypervolume as evaluations come in, attainment, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

FloatArray = NDArray[np.float64]

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Standing:
    """How one algorithm did, over its seeds.

    Attributes:
        algorithm: its name.
        seeds: of its runs.
        evaluations: of the shortest run.
        hypervolume: lowest, quartiles and highest final hypervolume.
        p_value: of a two-sided Wilcoxon signed-rank test of the final hypervolumes against the rival's, paired by seed;
            None without a rival or with fewer than two seeds in common.
        share_to_reach: median, over the seeds in common, of the evaluations after which it had the rival's final
            hypervolume, as a share of the rival's evaluations; inf where most runs never had it, None without a rival.
    """

    algorithm: str
    seeds: tuple[int, ...]
    evaluations: int
    hypervolume: tuple[float, float, float, float, float]
    p_value: float | None
    share_to_reach: float | None

    @property
    def median(self) -> float:
        """Median final hypervolume."""
        return self.hypervolume[2]


def hypervolume_curve(values: FloatArray, reference: FloatArray) -> FloatArray:
    """(n,) share of the box up to a reference point that the first 1, 2, … n of (n, m) points dominate."""
    unit = np.ones(len(reference))
    front = np.zeros((0, len(reference)))
    volume, curve = 0.0, np.empty(len(values))
    for place, point in enumerate(values / reference):
        if (point < unit).all() and not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volume = float(moocore.hypervolume(front, ref=unit))
        curve[place] = volume
    return curve


def standings(curves: Mapping[str, Mapping[int, FloatArray]], rival: str | None) -> tuple[Standing, ...]:
    """Compare algorithms by their hypervolume curves.

    Args:
        curves: by algorithm and seed, (n,) hypervolume after each evaluation.
        rival: whom all are compared with; None or unknown: nobody.

    Returns:
        One per algorithm, the best median first.
    """
    against = curves.get(rival or "", {})
    found = [_standing(name, runs, against if name != rival else {}) for name, runs in curves.items() if runs]
    return tuple(sorted(found, key=lambda each: -each.median))


def _standing(name: str, runs: Mapping[int, FloatArray], against: Mapping[int, FloatArray]) -> Standing:
    finals = [curve[-1] for curve in runs.values()]
    low, first, middle, third, high = (float(value) for value in np.quantile(finals, QUANTILES))
    common = sorted(runs.keys() & against.keys())
    return Standing(
        algorithm=name,
        seeds=tuple(sorted(runs)),
        evaluations=min(len(curve) for curve in runs.values()),
        hypervolume=(low, first, middle, third, high),
        p_value=signed_rank([float(runs[s][-1] - against[s][-1]) for s in common]) if len(common) > 1 else None,
        share_to_reach=float(np.median([share_to_reach(runs[s], against[s]) for s in common])) if common else None,
    )


def signed_rank(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 where nothing differs."""
    return float(wilcoxon(differences).pvalue) if any(differences) else 1.0


def share_to_reach(curve: FloatArray, rival: FloatArray) -> float:
    """Evaluations until the rival's final hypervolume, as a share of the rival's; inf when it is never reached."""
    reached = np.flatnonzero(curve >= rival[-1])
    return float(reached[0] + 1) / len(rival) if len(reached) else float("inf")


def attainment(runs: Sequence[FloatArray], percentile: float) -> FloatArray:
    """(k, 2) corners of the line that this percentage of the runs attained, of two objectives of (n, 2) points each."""
    whose = np.concatenate([np.full(len(run), place) for place, run in enumerate(runs)])
    surface = np.asarray(moocore.eaf(np.concatenate(runs), whose, percentiles=[percentile]), dtype=np.float64)[:, :2]
    return surface[np.lexsort((surface[:, 1], surface[:, 0]))]
