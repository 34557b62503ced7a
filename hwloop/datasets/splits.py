"""Stratified splits that depend on the labels and a seed, and on nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_rows(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose rows so that every class keeps its share.

    Each class gets the whole part of its share; what is missing goes to the largest remainders (ties by label).

    Args:
        labels: (n,) class of each row.
        count: how many rows, at most n.
        seed: of the choice within each class.

    Returns:
        (count,) row indices, ascending.
    """
    total = len(labels)
    if not 0 <= count <= total:
        raise ValueError(f"cannot choose {count} of {total} rows")
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * count / max(total, 1)
    quota = np.floor(shares).astype(np.int64)
    order = np.argsort(-(shares - quota), kind="stable")
    quota[order[: count - int(quota.sum())]] += 1
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:wanted]
        for label, wanted in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def other_rows(total: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of range(total) that are not in `rows`, ascending."""
    kept = np.ones(total, dtype=bool)
    kept[rows] = False
    return np.flatnonzero(kept)
