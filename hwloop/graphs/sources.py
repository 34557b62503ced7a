"""Data sets of graphs by the name that a user gives, and what networks are usually trained on them."""

from __future__ import annotations

from pathlib import Path

from hwloop.errors import DataError
from hwloop.graphs.graph import GraphSet
from hwloop.graphs.networks import Kind, NetworkConfig
from hwloop.graphs.planetoid import NAMES, read_planetoid
from hwloop.graphs.pyg import read_pyg
from hwloop.graphs.superpixels import SuperpixelConfig, load_superpixels
from hwloop.graphs.training import SUPERPIXELS, Recipe
from hwloop.progress import Progress

MNIST = "mnist-superpixels"
HIDDEN = {"gcn": 512, "gin": 512, "gat": 64}
"""UGS's for citation networks; of a GAT eight heads of eight channels, as its authors have them."""
HIDDEN_OF_GRAPHS = {"gcn": 146, "gin": 146, "gat": 144}
"""The superpixel benchmark's; a GAT's must be a multiple of its heads."""


def open_graphs(
    name: str, folder: Path, cache: Path, progress: Progress, superpixels: SuperpixelConfig | None = None
) -> GraphSet:
    """Open a data set.

    Args:
        name: "cora", "citeseer", "mnist-superpixels", or the path of a file of torch-geometric.
        folder: with the files of a set that is given by name.
        cache: folder for graphs that are made.
        progress: is told of graphs that are made.
        superpixels: how images become graphs.

    Raises:
        DataError: there is no such data set, or its files cannot be used.
        UserError: the extra is needed and not installed.
    """
    if name in NAMES:
        return read_planetoid(folder, name)
    if name == MNIST:
        return load_superpixels(folder, superpixels or SuperpixelConfig(), cache, progress)
    if Path(name).exists():
        return read_pyg(Path(name), seed=0)
    raise DataError(
        f"{name}: no data set and no file; give {', '.join((*NAMES, MNIST))}, or a file that torch-geometric wrote"
    )


def usual_network(data: GraphSet, kind: Kind, hidden: int | None = None, layers: int | None = None) -> NetworkConfig:
    """The network of the papers for such data: two layers for nodes, four residual ones for graphs.

    Raises:
        ConfigError: it cannot have this shape.
    """
    nodes = data.level == "node"
    usual = (HIDDEN if nodes else HIDDEN_OF_GRAPHS).get(kind, 64)
    return NetworkConfig(
        kind=kind,
        level=data.level,
        features=data.features,
        classes=data.classes,
        hidden=usual if hidden is None else hidden,
        layers=(2 if nodes else 4) if layers is None else layers,
        dropout=0.5 if nodes else 0.0,
    )


def usual_recipe(data: GraphSet) -> Recipe:
    """The recipe of the papers for such data."""
    return Recipe() if data.level == "node" else SUPERPIXELS
