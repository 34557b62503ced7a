"""Graphs of superpixels from real images: nodes by SLIC, edges to the nearest neighbours.

As in the superpixel benchmark (Dwivedi et al., JMLR 2023, section 3; Knyazev et al., NeurIPS 2019): a node's features
are its mean intensity and the centre of its pixels, and messages come from its nearest nodes.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from hwloop.datasets import DataConfig, load_images
from hwloop.errors import DataError
from hwloop.files import write_atomic
from hwloop.graphs import extra
from hwloop.graphs.graph import Graph, GraphSet, make_graph
from hwloop.progress import Progress

CACHE_VERSION = 1


@dataclass(frozen=True)
class SuperpixelConfig:
    """How many images, and how they become graphs.

    Attributes:
        train: images of the training file that networks are trained on.
        validation: others of the training file.
        test: images of the test file.
        segments: superpixels that SLIC aims at; 75 for MNIST.
        neighbours: from which a node takes messages.
        compactness: SLIC's weight of nearness against intensity.
        seed: of the choice of images.
    """

    train: int = 5000
    validation: int = 1000
    test: int = 1000
    segments: int = 75
    neighbours: int = 8
    compactness: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test", "segments", "neighbours"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least 1")


def load_superpixels(folder: Path, config: SuperpixelConfig, cache: Path, progress: Progress) -> GraphSet:
    """Superpixel graphs of the images of `mnist-train.parquet` and `mnist-test.parquet` in a folder.

    Args:
        folder: with the two files.
        config: which graphs.
        cache: folder in which made graphs are kept; made when absent.
        progress: is told of images.

    Raises:
        DataError: a file is missing or has too few images; the cache is damaged.
        UserError: scikit-image is not installed.
    """
    files = [folder / "mnist-train.parquet", folder / "mnist-test.parquet"]
    stamps = [(path.name, path.stat().st_size) for path in files if path.exists()]
    key = json.dumps([CACHE_VERSION, asdict(config), stamps], sort_keys=True)
    kept = cache / f"superpixels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not kept.exists():
        graphs = _make(files, config, progress)
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, _to_bytes(graphs))
    graphs = _read(kept)
    first, second = config.train, config.train + config.validation
    return GraphSet(
        name="mnist-superpixels",
        level="graph",
        graphs=graphs,
        classes=10,
        train=torch.arange(first),
        validation=torch.arange(first, second),
        test=torch.arange(second, second + config.test),
    )


def superpixel_graph(image: NDArray[np.float32], label: int, config: SuperpixelConfig, where: str) -> Graph:
    """The graph of one (height, width) image with values in [0, 1].

    Raises:
        DataError: it has fewer than two superpixels.
    """
    slic = extra.load("skimage.segmentation").slic
    height, width = image.shape
    labels = slic(
        image, n_segments=config.segments, compactness=config.compactness, channel_axis=None, start_label=0
    ).ravel()
    count = np.bincount(labels)
    rows, columns = np.divmod(np.arange(height * width), width)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(labels, values) / count

    centres = np.stack([mean(rows / height), mean(columns / width)], axis=1)
    features = np.column_stack([mean(image.ravel().astype(np.float64)), centres]).astype(np.float32)
    wanted = min(config.neighbours, len(count) - 1)
    if wanted < 1:
        raise DataError(f"{where}: SLIC finds one superpixel only; ask for more segments than {config.segments}")
    _, nearest = cKDTree(centres).query(centres, k=wanted + 1)
    targets = np.repeat(np.arange(len(count)), wanted)
    edges = torch.from_numpy(np.stack([nearest[:, 1:].ravel(), targets]).astype(np.int64))
    return make_graph(torch.from_numpy(features), edges, torch.tensor([label]), where)


def _make(files: Sequence[Path], config: SuperpixelConfig, progress: Progress) -> tuple[Graph, ...]:
    extra.load("skimage.segmentation")  # said before the images are read
    train_file, test_file = files
    wanted = config.train + config.validation
    images = load_images(
        DataConfig(
            source="parquet",
            train=train_file,
            test=test_file,
            validation=config.validation,
            limit=max(wanted, config.test),  # of each file, equally of each class
            mean=(0.0,),
            std=(1.0,),
            seed=config.seed,
        )
    )
    parts = [(images.train, config.train), (images.validation, config.validation), (images.test, config.test)]
    graphs = []
    with progress.step("superpixels of images", wanted + config.test) as step:
        for split, count in parts:
            if len(split) < count:
                raise DataError(f"{train_file.parent}: {count} images were asked for, a file holds {len(split)}")
            for row in np.random.default_rng(config.seed).permutation(len(split))[:count]:
                image = split.images[row, 0]
                graphs.append(superpixel_graph(image, int(split.labels[row]), config, f"image {row}"))
                step.advance()
    return tuple(graphs)


def _to_bytes(graphs: Sequence[Graph]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        features=torch.cat([_dense(graph) for graph in graphs]).numpy(),
        sources=torch.cat([graph.sources for graph in graphs]).numpy().astype(np.int32),
        targets=torch.cat([graph.targets for graph in graphs]).numpy().astype(np.int32),
        labels=torch.cat([graph.labels for graph in graphs]).numpy(),
        nodes=np.array([graph.nodes for graph in graphs]),
        edges=np.array([graph.edges for graph in graphs]),
    )
    return buffer.getvalue()


def _dense(graph: Graph) -> Tensor:
    if not isinstance(graph.features, Tensor):
        raise TypeError("superpixels have dense features")
    return graph.features


def _read(path: Path) -> tuple[Graph, ...]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
        nodes, edges = arrays["nodes"].tolist(), arrays["edges"].tolist()
        pairs = torch.stack([arrays["sources"], arrays["targets"]]).to(torch.int64)
        parts = zip(
            torch.split(arrays["features"], nodes), torch.split(pairs, edges, dim=1), arrays["labels"], strict=True
        )
        return tuple(
            make_graph(features, pair, label.reshape(1), f"{path}: graph {index}")
            for index, (features, pair, label) in enumerate(parts)
        )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is damaged ({' '.join(str(error).split())[:120]}); delete it") from error
