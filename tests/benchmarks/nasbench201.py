"""NAS-Bench-201 as `Network`s, and their latencies as others measured them on three devices.

The skeleton and the operations are those of Dong and Yang, "NAS-Bench-201" (ICLR 2020), section 2: a 3x3
convolution, three stages of five cells with 16, 32 and 64 channels, a residual block of stride 2 between stages,
global average pooling and a classifier.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwloop.layers import Layer, Network, Node

EDGES = ("e10", "e20", "e21", "e30", "e31", "e32")
"""``e<to><from>``, in the order in which a cell runs them."""

DEVICES: Mapping[str, str] = {
    "Jetson Nano": "jetson_nano_fp32_ms",
    "Xeon 6226": "xeon_gold_6226_ms",
    "Raspberry Pi 4": "raspberry_pi_4_ms",
}
"""Column of each device."""

CELLS, WIDTHS, IMAGE, CLASSES = 5, (16, 32, 64), 32, 10


@dataclass(frozen=True)
class Measured:
    """The file, read.

    Attributes:
        cells: of each network, the operation of each of `EDGES`.
        networks: n.
        latencies_ms: by device, (n,).
    """

    cells: tuple[tuple[str, ...], ...]
    networks: tuple[Network, ...]
    latencies_ms: Mapping[str, NDArray[np.float64]]


def read(shared_data: Path, chosen: Sequence[int] | None = None) -> Measured:
    """The measured networks: all, or some rows of the file in this order."""
    with (shared_data / "device_truth" / "nasbench201_measured_ms.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if chosen is not None:
        rows = [rows[index] for index in chosen]
    cells = tuple(tuple(row[edge] for edge in EDGES) for row in rows)
    latencies = {device: np.array([float(row[column]) for row in rows]) for device, column in DEVICES.items()}
    return Measured(cells, tuple(network(cell) for cell in cells), latencies)


def network(cell: tuple[str, ...]) -> Network:
    """The network of a cell, every branch as it is written, the dead ones too.

    ``none`` is no layer, and ``skip_connect`` is none either. A sum without terms is a tensor of zeros: a node
    without inputs.
    """
    return _Builder(dict(zip(EDGES, cell, strict=True))).network()


class _Builder:
    def __init__(self, edges: Mapping[str, str]) -> None:
        self._edges = edges
        self._nodes: list[Node] = []

    def network(self) -> Network:
        last, size = self._conv(-1, "stem", 3, WIDTHS[0], IMAGE, 3), IMAGE
        for stage, width in enumerate(WIDTHS):
            if stage:
                last = self._reduction(last, f"reduction{stage}", WIDTHS[stage - 1], width, size)
                size //= 2
            for cell in range(CELLS):
                last = self._cell(last, f"stage{stage}.{cell}", width, size)
        last = self._relu(last, "head.relu", WIDTHS[-1], size)
        shape, pooled = (1, WIDTHS[-1], size, size), (1, WIDTHS[-1], 1, 1)
        last = self._add("head.pool", Layer("global_avg_pool", (shape,), pooled), last)
        last = self._add("head.flatten", Layer("flatten", (pooled,), pooled[:2]), last)
        last = self._add("head.linear", Layer("linear", (pooled[:2],), (1, CLASSES), bias=True), last)
        return Network(tuple(self._nodes), ((1, 3, IMAGE, IMAGE),), (last,))

    def _cell(self, source: int, name: str, width: int, size: int) -> int:
        values = [source]
        for to in (1, 2, 3):
            terms = []
            for start in range(to):
                operation = self._edges[f"e{to}{start}"]
                if operation != "none":
                    terms.append(self._edge(values[start], f"{name}.e{to}{start}", operation, width, size))
            values.append(self._sum(terms, f"{name}.n{to}", width, size))
        return values[3]

    def _edge(self, source: int, name: str, operation: str, width: int, size: int) -> int:
        if operation == "skip_connect":
            return source
        if operation == "avg_pool_3x3":
            shape = (1, width, size, size)
            return self._add(name, Layer("avg_pool", (shape,), shape, kernel=(3, 3), padding=(1, 1, 1, 1)), source)
        kernel = int(operation[-1])
        return self._conv(self._relu(source, f"{name}.relu", width, size), name, width, width, size, kernel)

    def _reduction(self, source: int, name: str, narrow: int, wide: int, size: int) -> int:
        main = self._conv(self._relu(source, f"{name}.relu1", narrow, size), f"{name}.conv1", narrow, wide, size, 3, 2)
        main = self._conv(self._relu(main, f"{name}.relu2", wide, size // 2), f"{name}.conv2", wide, wide, size // 2, 3)
        before, after = (1, narrow, size, size), (1, narrow, size // 2, size // 2)
        pool = Layer("avg_pool", (before,), after, kernel=(2, 2), stride=(2, 2))
        short = self._add(f"{name}.pool", pool, source)
        short = self._conv(short, f"{name}.shortcut", narrow, wide, size // 2, 1)
        return self._sum([short, main], name, wide, size // 2)

    def _sum(self, terms: list[int], name: str, width: int, size: int) -> int:
        shape = (1, width, size, size)
        if not terms:
            return self._add(name, Layer("unsupported", (), shape, detail="zeros"))
        total = terms[0]
        for place, term in enumerate(terms[1:]):
            total = self._add(f"{name}.add{place}", Layer("add", (shape, shape), shape), total, term)
        return total

    def _relu(self, source: int, name: str, width: int, size: int) -> int:
        shape = (1, width, size, size)
        return self._add(name, Layer("relu", (shape,), shape), source)

    def _conv(self, source: int, name: str, inputs: int, outputs: int, size: int, kernel: int, stride: int = 1) -> int:
        layer = Layer(
            "conv",
            ((1, inputs, size, size),),
            (1, outputs, size // stride, size // stride),
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(kernel // 2,) * 4,
            bias=True,  # of the batch normalisation that is folded into it
        )
        return self._add(name, layer, source)

    def _add(self, name: str, layer: Layer, *inputs: int) -> int:
        self._nodes.append(Node(name, layer, inputs))
        return len(self._nodes) - 1


def families(cells: tuple[tuple[str, ...], ...]) -> dict[str, NDArray[np.bool_]]:
    """Kinds of networks to hold out, by name: (n,) which ones belong to it."""
    paths = np.array([live_paths(cell) for cell in cells])
    edges = {edge: np.array([cell[place] for cell in cells]) for place, edge in enumerate(EDGES)}
    return {
        "four live paths": paths == 4,
        "two live paths": paths == 2,
        "e30 a 3x3 convolution": edges["e30"] == "nor_conv_3x3",
        "e21 a pool": edges["e21"] == "avg_pool_3x3",
    }


def live_paths(cell: tuple[str, ...]) -> int:
    """Paths from the first node of a cell to the last, of four."""
    there = [operation != "none" for operation in cell]
    e10, e20, e21, e30, e31, e32 = there
    return e30 + (e10 and e31) + (e20 and e32) + (e10 and e21 and e32)


def shared_data() -> Path:
    """The folder of real data sets, as the tests find it."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("HWLOOP_SHARED_DATA", beside))
    if not (folder / "device_truth").is_dir():
        sys.exit(f"no measured networks in {folder}/device_truth: set HWLOOP_SHARED_DATA")
    return folder
