"""How alike two networks are: a weighted sum of linear and smooth likenesses, block by block.

An additive kernel (Duvenaud, Nickisch, Rasmussen, "Additive Gaussian Processes", NeurIPS 2011): a linear term for what
adds up and holds far away, and a squared exponential for what bends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hwloop.predictors.graph.encoding import Blocks

FloatArray = NDArray[np.float64]

CONSTANT = 1.0
"""Variance of the mean, which is not known beforehand; targets are standardised."""


@dataclass(frozen=True)
class Kernel:
    """k(a, b) = constant + sum over blocks of linear * <a, b> + smooth * exp(-|a - b|^2 / (2 length^2)).

    Attributes:
        linear: (g,) variance of each block's linear term.
        smooth: (g,) variance of each block's smooth term.
        length: (g,) its length scale; 1 is the typical distance of a known network from their mean.
    """

    linear: FloatArray
    smooth: FloatArray
    length: FloatArray

    @classmethod
    def of_logarithms(cls, logarithms: FloatArray) -> Kernel:
        """From (3 g,) natural logarithms: all linear, all smooth, all length."""
        return cls(*np.exp(logarithms).reshape(3, -1))

    @property
    def logarithms(self) -> FloatArray:
        """(3 g,), see `of_logarithms`."""
        return np.asarray(np.log(np.concatenate([self.linear, self.smooth, self.length])), dtype=np.float64)

    def between(self, left: Blocks, right: Blocks) -> FloatArray:
        """(m, n) covariances of m and n networks."""
        total = np.full((len(left[0]), len(right[0])), CONSTANT)
        for place, (inner, apart) in enumerate(map(_products, left, right)):
            total += self.linear[place] * inner
            total += self.smooth[place] * np.exp(apart * (-0.5 / self.length[place] ** 2))
        return total

    def alone(self, blocks: Blocks) -> FloatArray:
        """(n,) variances of n networks."""
        total = np.full(len(blocks[0]), CONSTANT + self.smooth.sum())
        for weight, rows in zip(self.linear, blocks, strict=True):
            total += weight * (rows**2).sum(axis=1)
        return total


class Terms:
    """The terms of a kernel over fixed networks, for many values of its parameters.

    Args:
        blocks: of n networks.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._products = [_products(rows, rows) for rows in blocks]

    def covariance(self, kernel: Kernel) -> tuple[FloatArray, list[FloatArray]]:
        """The (n, n) covariances, and their derivatives by the logarithms of the parameters, in their order."""
        linear, smooth, length = [], [], []
        for place, (inner, apart) in enumerate(self._products):
            linear.append(kernel.linear[place] * inner)
            scaled = apart / kernel.length[place] ** 2
            smooth.append(kernel.smooth[place] * np.exp(-0.5 * scaled))
            length.append(smooth[-1] * scaled)
        total = CONSTANT + sum(linear) + sum(smooth)
        return total, [*linear, *smooth, *length]


def _products(left: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(m, n) inner products, and squared distances."""
    inner = left @ right.T
    apart = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * inner
    return inner, np.maximum(apart, 0.0)


def chunks(count: int, most: int) -> Iterator[slice]:
    """Slices of at most `most` that cover `count`."""
    for start, stop in pairwise([*range(0, count, most), count]):
        yield slice(start, stop)
