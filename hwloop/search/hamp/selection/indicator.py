"""Additive epsilon indicator: the point with the worst fitness leaves, in turn (Zitzler, Künzli 2004, IBEA)."""

from __future__ import annotations

import numpy as np

from hwloop.search.hamp.selection.order import FloatArray, IntArray

KAPPA = 0.05


def indicator(values: FloatArray, keep: int) -> IntArray:
    """See `Selector`."""
    bounded = np.minimum(values, 2.0)  # points far from the front must not set the scale
    epsilon = (bounded[:, None, :] - bounded[None, :, :]).max(axis=2)  # of row i to be as good as column j
    largest = max(float(np.abs(epsilon).max()), 1e-12)
    pull = -np.exp(-epsilon / (KAPPA * largest))
    np.fill_diagonal(pull, 0.0)
    fitness = pull.sum(axis=0)
    there = np.ones(len(values), dtype=np.bool_)
    removed: list[int] = []
    while len(values) - len(removed) > keep:
        worst = int(np.argmin(np.where(there, fitness, np.inf)))
        there[worst] = False
        fitness -= pull[worst]
        removed.append(worst)
    kept = np.flatnonzero(there)
    kept = kept[np.argsort(-fitness[kept], kind="stable")]
    return np.concatenate([kept, np.array(removed[::-1], dtype=np.int64)])
