"""The portfolio: several environmental selections share the places of the next population.

Every generation the selectors put the same union in order and draw from it in turn, as teams draft players, each as
often as its share of the places says. A selector earns credit when a child of a parent that it would have kept adds
to the hypervolume of the archive; shares follow credit, and none falls below a floor, so that a selector which is
useless early can be of use late. Nothing is random here.

The paper (Hong et al. 2024) names a "portfolio-based selection" and no more was readable: the draft and the credit are
ours.
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
"""The least share of the places, of what equal shares would give, times the number of selectors."""

FORGET = 0.8
"""Credit that is left of a generation's after the next."""


class Portfolio:
    """Draft by several selectors.

    Args:
        selectors: by name; one alone decides everything.

    Attributes:
        credit: (s,) recent gain of each.
    """

    def __init__(self, selectors: Mapping[str, Selector]) -> None:
        if not selectors:
            raise ValueError("a portfolio needs at least one selector")
        self.names = tuple(selectors)
        self._selectors: Sequence[Selector] = tuple(selectors.values())
        self.credit = np.zeros(len(selectors))

    @property
    def shares(self) -> FloatArray:
        """(s,) of the places, summing to 1."""
        count = len(self.credit)
        total = self.credit.sum()
        earned = self.credit / total if total > 0 else np.full(count, 1 / count)
        return np.asarray(FLOOR / count + (1 - FLOOR) * (0.5 * earned + 0.5 / count), dtype=np.float64)

    def select(self, values: FloatArray, keep: int) -> tuple[IntArray, NDArray[np.bool_]]:
        """Choose from a union.

        Args:
            values: (n, m) objectives, all minimised, not scaled.
            keep: how many, at most n.

        Returns:
            (keep,) places, the first drawn first, and (keep, s) which selector alone would have kept each.
        """
        even = scaled(values)
        orders = [selector(even, keep) for selector in self._selectors]
        alone = np.zeros((len(values), len(orders)), dtype=np.bool_)
        for column, order in enumerate(orders):
            alone[order[:keep], column] = True
        chosen = draft(orders, self.shares, keep)
        return chosen, alone[chosen]

    def reward(self, gains: FloatArray, kept_by: FloatArray) -> None:
        """Credit a generation.

        Args:
            gains: (k,) what each new point added to the hypervolume.
            kept_by: (k, s) share of each point's parents that each selector would have kept.
        """
        total = kept_by.sum(axis=0)
        earned = (gains[:, None] * kept_by).sum(axis=0) / np.maximum(total, 1e-12)
        self.credit = FORGET * self.credit + np.where(total > 0, earned, 0.0)


def draft(orders: Sequence[IntArray], shares: FloatArray, keep: int) -> IntArray:
    """(keep,) places drawn in turn from several orders, each in proportion to its share (ties: the first order)."""
    taken: dict[int, None] = {}
    heads = [0] * len(orders)
    drawn = np.zeros(len(orders))
    while len(taken) < keep:
        turn = int(np.argmin((drawn + 1) / shares))
        order = orders[turn]
        while int(order[heads[turn]]) in taken:
            heads[turn] += 1
        taken[int(order[heads[turn]])] = None
        drawn[turn] += 1
    return np.array(list(taken), dtype=np.int64)
