"""Cora and CiteSeer as Planetoid publishes them (Yang, Cohen and Salakhutdinov, ICML 2016), with the public split.

The files are pickles. They are read by an unpickler that knows arrays, sparse matrices and lists, and nothing else: a
file that names anything more is refused before it can run.
"""

from __future__ import annotations

import collections
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy._core.multiarray import _reconstruct
from numpy.typing import NDArray

from hwloop.errors import DataError
from hwloop.graphs.graph import GraphSet, SparseRows, make_graph

NAMES = ("cora", "citeseer")
VALIDATION = 500
_PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("scipy.sparse.csr", "csr_matrix"): sp.csr_matrix,
    ("collections", "defaultdict"): collections.defaultdict,
    ("__builtin__", "list"): list,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no Planetoid file needs") from None


def read_planetoid(folder: Path, name: str) -> GraphSet:
    """Read one of the citation networks; features sum to one in each row, as is usual.

    Args:
        folder: with the files `ind.<name>.x` and the others.
        name: "cora" or "citeseer".

    Raises:
        DataError: a file is missing, is no Planetoid file, or names more than arrays; an edge to no node; NaN.
    """
    parts = {part: _unpickle(folder / f"ind.{name}.{part}") for part in _PARTS}
    where = f"{folder / f'ind.{name}.*'}"
    try:
        test = np.loadtxt(folder / f"ind.{name}.test.index", dtype=np.int64, ndmin=1)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / f'ind.{name}.test.index'}: cannot be read ({error})") from error
    try:
        return _assemble(parts, test, name, where)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: the files do not fit together ({error}); get them again") from error


def _assemble(parts: dict[str, Any], test: NDArray[np.int64], name: str, where: str) -> GraphSet:
    known = parts["allx"].shape[0]
    if test.min() != known or len(test) != parts["tx"].shape[0]:
        raise ValueError(f"{len(test)} test nodes from {test.min()}, {parts['tx'].shape[0]} rows after {known}")
    nodes = int(test.max()) + 1
    # CiteSeer's test index leaves out nodes without features: they stay, empty and unlabelled, as everybody has them.
    features = sp.lil_matrix((nodes, parts["allx"].shape[1]), dtype=np.float32)
    features[:known] = parts["allx"]
    features[test] = parts["tx"]
    onehot = np.zeros((nodes, parts["ally"].shape[1]))
    onehot[:known] = parts["ally"]
    onehot[test] = parts["ty"]
    pairs = [(int(source), int(target)) for source, others in parts["graph"].items() for target in others]
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    labelled = len(parts["y"])
    graph = make_graph(
        _row_normalised(features.tocsr()),
        torch.cat([edges, edges.flip(0)], dim=1),
        torch.from_numpy(onehot.argmax(axis=1)),
        where,
    )
    return GraphSet(
        name=name,
        level="node",
        graphs=(graph,),
        classes=onehot.shape[1],
        train=torch.arange(labelled),
        validation=torch.arange(labelled, labelled + VALIDATION),
        test=torch.from_numpy(np.sort(test)),
    )


def _row_normalised(matrix: sp.csr_matrix) -> SparseRows:
    matrix.eliminate_zeros()
    matrix.sort_indices()
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    values = matrix.data / np.repeat(np.where(sums == 0, 1, sums), np.diff(matrix.indptr))
    return SparseRows(
        values=torch.from_numpy(values.astype(np.float32)),
        columns=torch.from_numpy(matrix.indices.astype(np.int64)),
        offsets=torch.from_numpy(matrix.indptr[:-1].astype(np.int64)),
        width=matrix.shape[1],
    )


def _unpickle(path: Path) -> Any:
    try:
        return _Unpickler(BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; the seven Planetoid files of a data set lie in one folder") from error
    except Exception as error:  # a damaged pickle raises whatever its reader trips over
        raise DataError(f"{path}: not a readable Planetoid file ({' '.join(str(error).split())[:200]})") from error
