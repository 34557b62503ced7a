"""Data sets of torch-geometric that lie on the user's disk: processed files, read as tensors and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hwloop.datasets.splits import other_rows, stratified_rows
from hwloop.errors import DataError
from hwloop.graphs import extra
from hwloop.graphs.graph import Graph, GraphSet, make_graph

HELD_OUT = 0.1


def read_pyg(path: Path, seed: int) -> GraphSet:
    """Read a file that torch-geometric's `InMemoryDataset.save` or `torch.save(data)` wrote.

    One graph with `train_mask`, `val_mask` and `test_mask` is for classifying nodes; several graphs with one label each
    are for classifying graphs: a tenth of them, equally of each class, becomes the validation split, a tenth the test.

    Args:
        path: the file, usually `processed/data.pt` in the data set's folder.
        seed: of the splits.

    Raises:
        DataError: no such file, no such content, or a graph that cannot be used.
        UserError: torch-geometric is not installed.
    """
    if path.is_dir():
        path = path / "processed" / "data.pt"
    graphs = _graphs(path)
    name = path.parent.parent.name if path.parent.name == "processed" else path.stem
    masks = [getattr(graphs[0], split, None) for split in ("train_mask", "val_mask", "test_mask")]
    read = tuple(_graph(one, f"{path}: graph {index}") for index, one in enumerate(graphs))
    classes = int(max(int(one.labels.max()) for one in read)) + 1
    widths = sorted({int(one.num_features) for one in graphs})
    if len(widths) > 1:
        raise DataError(f"{path}: its graphs have {widths[0]} to {widths[-1]} features a node; they must be the same")
    if len(read) == 1:
        if any(mask is None or mask.dim() != 1 for mask in masks):
            raise DataError(f"{path}: one graph, without train_mask, val_mask and test_mask over its nodes; add them")
        splits = [mask.nonzero()[:, 0] for mask in masks if mask is not None]
        return GraphSet(name, "node", read, classes, *splits)
    if any(len(one.labels) != 1 for one in read):
        raise DataError(f"{path}: its graphs have a label for each node; hwloop classifies the nodes of one graph only")
    labels = torch.cat([one.labels for one in read]).numpy()
    share = max(1, round(HELD_OUT * len(read)))
    test = stratified_rows(labels, share, seed)
    rest = other_rows(len(read), test)
    held = stratified_rows(labels[rest], share, seed + 1)
    validation, train = rest[held], rest[other_rows(len(rest), held)]
    return GraphSet(name, "graph", read, classes, *(torch.from_numpy(one) for one in (train, validation, test)))


def _graphs(path: Path) -> list[Any]:
    """The `Data` objects of a file."""
    data = extra.load("torch_geometric.data")
    attributes = extra.load("torch_geometric.data.data")
    storage = extra.load("torch_geometric.data.storage")
    safe = [data.Data, attributes.DataTensorAttr, attributes.DataEdgeAttr, storage.GlobalStorage]
    try:
        with torch.serialization.safe_globals(safe):
            content = torch.load(path, weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; torch-geometric writes it when it processes the data set") from error
    except Exception as error:  # torch raises whatever a damaged or foreign file makes it trip over
        raise DataError(f"{path}: no file of torch-geometric ({' '.join(str(error).split())[:160]})") from error
    if isinstance(content, data.Data):
        return [content]
    if isinstance(content, list | tuple) and content and all(isinstance(one, data.Data) for one in content):
        return list(content)
    try:
        whole, slices = content[0], content[1]
        whole = data.Data.from_dict(whole) if isinstance(whole, dict) else whole
        if not slices:
            return [whole]
        separate = extra.load("torch_geometric.data.separate").separate
        count = len(slices["edge_index"]) - 1
        return [separate(data.Data, whole, index, slices, decrement=False) for index in range(count)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: holds no graphs ({error!r}); give a file of InMemoryDataset.save") from error


def _graph(one: Any, where: str) -> Graph:
    features, edges, labels = one.x, one.edge_index, one.y
    for name, tensor in (("x", features), ("edge_index", edges), ("y", labels)):
        if not isinstance(tensor, Tensor):
            raise DataError(f"{where}: has no {name}; hwloop needs node features x, edge_index and labels y")
    if features.dim() != 2:
        raise DataError(f"{where}: x has the shape {tuple(features.shape)}; it must be (nodes, features)")
    return make_graph(features.to(torch.float32), edges, labels.reshape(-1), where)
