"""The portfolio: several environmental selections vote on the next population.

Every generation each selector puts the same union in order, and the points with the best weighted ranks stay (Borda's
count): what all want comes first, and what one alone wants stays as far as its vote weighs. Weights follow credit,
which is earned only where the selectors disagree: a selector is right when the children of parents that it would have
kept gain more hypervolume than the children of those that only others would have kept. What all would keep, about half
of a population, tells nothing about them. No weight falls below a floor, so that a selector which is useless early can
be of use late. Nothing is random here.

The paper (Hong et al. 2024) names a "portfolio-based selection" and no more was readable: the vote and the credit are
ours. A draft, in which the selectors pick in turn, and credit for all parents alike were tried before: on the synthetic
problem without local search they did worse than the best selector alone, which the vote does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hwloop.search.hamp.selection import Selector
from hwloop.search.hamp.selection.order import scaled

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FLOOR = 0.1
"""The least weight of a vote, times the number of selectors; all weights together are 1."""

FORGET = 0.9
"""What is left of a generation's evidence after the next."""

PRIOR = 5.0
"""So many children with the usual gain are added to those of either kind: a few of them prove little."""

SHARPNESS = 2.0
"""Weights follow this power of how many times more the children of a selector's own parents gain."""


class Portfolio:
    """Votes of several selectors.

    Args:
        selectors: by name; one alone decides everything.
    """

    def __init__(self, selectors: Mapping[str, Selector]) -> None:
        if not selectors:
            raise ValueError("a portfolio needs at least one selector")
        self.names = tuple(selectors)
        self._selectors: Sequence[Selector] = tuple(selectors.values())
        self._kept, self._left = np.zeros((2, 2, len(selectors)))  # gain and number of children, discounted
        self._gain = self._children = 0.0

    @property
    def weights(self) -> FloatArray:
        """(s,) of the votes, summing to 1."""
        count = len(self.names)
        if self._gain <= 0:
            return np.full(count, 1 / count)
        usual = PRIOR * self._gain / self._children
        kept, left = ((gain + usual) / (children + PRIOR) for gain, children in (self._kept, self._left))
        odds = (kept / left) ** SHARPNESS
        return np.asarray(FLOOR / count + (1 - FLOOR) * odds / odds.sum(), dtype=np.float64)

    def select(self, values: FloatArray, keep: int) -> tuple[IntArray, NDArray[np.bool_]]:
        """Choose from a union.

        Args:
            values: (n, m) objectives, all minimised, not scaled.
            keep: how many, at most n.

        Returns:
            (keep,) places, the most wanted first, and (keep, s) which selector alone would have kept each.
        """
        even = scaled(values)
        orders = [selector(even, keep) for selector in self._selectors]
        alone = np.zeros((len(values), len(orders)), dtype=np.bool_)
        for column, order in enumerate(orders):
            alone[order[:keep], column] = True
        chosen = elect(orders, self.weights, keep)
        return chosen, alone[chosen]

    def reward(self, gains: FloatArray, kept_by: FloatArray) -> None:
        """Take a generation as evidence.

        Args:
            gains: (k,) what each new point added to the hypervolume.
            kept_by: (k, s) share of each point's parents that each selector would have kept.
        """
        for told, shares in ((self._kept, kept_by), (self._left, 1 - kept_by)):
            told *= FORGET
            told += np.stack([gains @ shares, shares.sum(axis=0)])
        self._gain = FORGET * self._gain + float(gains.sum())
        self._children = FORGET * self._children + len(gains)


def elect(orders: Sequence[IntArray], weights: FloatArray, keep: int) -> IntArray:
    """(keep,) places with the least weighted sum of ranks; all ranks from `keep` on count the same (ties: by place)."""
    score = np.zeros(len(orders[0]))
    for order, weight in zip(orders, weights, strict=True):
        ranks = np.empty(len(order))
        ranks[order] = np.minimum(np.arange(len(order)), keep)
        score += weight * ranks
    return np.asarray(np.argsort(score, kind="stable")[:keep], dtype=np.int64)
