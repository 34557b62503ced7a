"""ResNet-20 on CIFAR-10 as a problem that is replayed: real errors, learned by a surrogate, and a recorded device.

What is in `data/`:

- `resnet20-errors.parquet`: candidates with the number of their errors on 1,000 held-out images, and who asked for them
  (`resnet20_errors.py` made it; the file's own metadata has the conditions);
- `resnet20-predictor.json`: of the same space in onnxruntime 1.31.1 on a shared virtual machine (AMD EPYC, one thread),
  fitted on the 258 layers and 30 networks of the campaign that `python -m tests.benchmarks spaces --spaces resnet20
  --runtimes onnxruntime` ran there on 2026-11-29.

The surrogate benchmark follows Siems et al. 2020, "Surrogate NAS benchmarks" (NAS-Bench-301).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import nn

from hwloop.extraction import ONNXRUNTIME_X86
from hwloop.layers import ScalableNetwork
from hwloop.models import build_model
from hwloop.predictors import NetworkPredictor
from hwloop.pruning import Candidate, PruningSpace
from hwloop.study.space import Moves, open_space

FloatArray = NDArray[np.float64]

DATA = Path(__file__).with_name("data")
ERRORS, PREDICTOR = DATA / "resnet20-errors.parquet", DATA / "resnet20-predictor.json"

OBJECTIVES = ("error", "latency_ms", "peak_memory_mb")
SHAPE, GRAIN = (3, 32, 32), 8
JUDGED_ON = 1000
"""Held-out images of each error."""

LED = "led to"
"""Begins the source of candidates that a surrogate led searches to."""

TREES = 5
"""Ensembles of boosted trees whose mean answers."""


@dataclass(frozen=True)
class Judged:
    """A candidate whose error was counted.

    Attributes:
        text: the candidate.
        source: who asked for it.
        errors: of `JUDGED_ON` images.
    """

    text: str
    source: str
    errors: int

    @property
    def near_front(self) -> bool:
        """Whether a search asked for it."""
        return self.source != "drawn"

    def to_record(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Judged:
        """The inverse of `to_record`; what else is in the record does not matter."""
        return cls(record["text"], record["source"], record["errors"])


def open_moves(module: nn.Module | None = None) -> Moves:
    """The space of the recorded campaign: of a network with projections, by default one without training."""
    if module is None:
        arguments = {"shortcut": "projection"}
        module = build_model("resnet20", num_classes=10, in_channels=3, arguments=arguments).eval()
    return open_space(module, SHAPE, ONNXRUNTIME_X86, grain=GRAIN)


def predictor(scalable: ScalableNetwork) -> NetworkPredictor:
    """The recorded device's."""
    return NetworkPredictor.load(PREDICTOR, scalable)


def read() -> tuple[tuple[Judged, ...], Mapping[str, str]]:
    """All that was judged, and under which conditions."""
    table = pq.read_table(ERRORS)
    conditions: Mapping[str, str] = json.loads((table.schema.metadata or {})[b"conditions"])
    return tuple(Judged.from_record(record) for record in table.to_pylist()), conditions


def write(path: Path, judged: Iterable[Judged], conditions: Mapping[str, str]) -> None:
    """Write the file that `read` reads."""
    table = pa.Table.from_pylist([one.to_record() for one in judged])
    metadata = {"conditions": json.dumps(dict(conditions), sort_keys=True)}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)


@dataclass(frozen=True)
class ErrorSurrogate:
    """The error of any candidate, learned from those that were judged.

    Attributes:
        space: of the candidates.
        trees: boosted from different seeds; their mean answers.
    """

    space: PruningSpace
    trees: tuple[HistGradientBoostingRegressor, ...]

    @classmethod
    def fitted(cls, space: PruningSpace, judged: Sequence[Judged]) -> ErrorSurrogate:
        """Learn from judged candidates."""
        features = features_of(space, [space.parse(one.text) for one in judged])
        errors = errors_of(judged)
        return cls(space, tuple(_tree(seed).fit(features, errors) for seed in range(TREES)))

    def error(self, candidate: Candidate) -> float:
        """Return the error of one."""
        return float(self.errors([candidate])[0])

    def errors(self, candidates: Sequence[Candidate]) -> FloatArray:
        """(n,) from 0 to 1."""
        features = features_of(self.space, candidates)
        mean = np.mean([tree.predict(features) for tree in self.trees], axis=0)
        return np.asarray(np.clip(mean, 0, 1), dtype=np.float64)


def features_of(space: PruningSpace, candidates: Sequence[Candidate]) -> FloatArray:
    """(n, 2 G + B + 1) what the error is learned from.

    Widths as shares of the base's, nothing where the block is removed; flags of the blocks; the logarithms of the
    widths; and the number of blocks.
    """
    widths, remains = space.arrays(candidates)
    shares = widths / np.array(space.base.widths)
    owners = [
        next((i for i, block in enumerate(space.blocks) if set(group.roots) <= set(block.layers)), None)
        for group in space.groups
    ]
    for column, owner in enumerate(owners):
        if owner is not None:
            shares[:, column] *= remains[:, owner]
    return np.column_stack([shares, remains, np.log(shares + 0.1), remains.sum(axis=1)])


def errors_of(judged: Sequence[Judged]) -> FloatArray:
    """(n,) from 0 to 1."""
    return np.array([one.errors for one in judged]) / JUDGED_ON


def _tree(seed: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=400, learning_rate=0.05, max_leaf_nodes=16, min_samples_leaf=8, max_features=0.5, random_state=seed
    )
