"""A table of 100,000 rows: from its file to its first answer."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hwloop.layers import Layer
from hwloop.tables import Context, LatencyTable, Row
from tests.benchmarks.timing import milliseconds, spread

CONTEXT = Context("bench", "Imaginary CPU", "onnxruntime", "1.31.1", 1)
SIZES = (7, 8, 14, 16, 28, 32, 56, 112)
KERNELS = (1, 3, 5, 7)
ASKED = "conv 1x24x28x28>1x40x28x28 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32"

FRESH = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from hwloop.layers import Layer
from hwloop.tables import LatencyTable
imported = time.perf_counter()
assert LatencyTable.load(Path(sys.argv[1])).lookup(Layer.parse(sys.argv[2])).supported
print(1e3 * (imported - began), 1e3 * (time.perf_counter() - imported))
"""


def _row(number: int) -> Row:
    """One row of 32 geometries, whose widths form a grid."""
    place, geometry = divmod(number, len(SIZES) * len(KERNELS))
    size, kernel = SIZES[geometry % len(SIZES)], KERNELS[geometry // len(SIZES)]
    outputs, inputs = (1 + part for part in divmod(place, 56))
    latency_ms = 0.004 + 1e-6 * inputs * outputs * size * kernel
    padding = (kernel // 2,) * 4
    shapes = ((1, inputs, size, size),), (1, outputs, size, size)
    key = Layer("conv", *shapes, kernel=(kernel, kernel), padding=padding, bias=True, activation="relu").key
    numbers = (latency_ms, 0.99 * latency_ms, 1.01 * latency_ms, (latency_ms, latency_ms))
    trials = (f"{number:064x}:1", f"{number:064x}:2")
    return Row(
        key, *numbers, 60_000_000, 1_000_000, "ok", (), CONTEXT, samples_sha256=f"{number:064x}", trial_ids=trials
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Print how long opening and the first lookup take, in this process and in fresh ones."""
    parser = argparse.ArgumentParser(prog="table-open", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args(arguments)
    asked = Layer.parse(ASKED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        LatencyTable(map(_row, range(options.rows))).save(path)
        print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:.1f} MB on disk")
        both = milliseconds(lambda: LatencyTable.load(path).lookup(asked), options.repetitions)
        opening = milliseconds(lambda: LatencyTable.load(path), options.repetitions)
        table = LatencyTable.load(path)
        table.lookup(asked)
        more = milliseconds(lambda: table.lookup(asked), options.repetitions)
        print("open and answer the first lookup:", spread(both))
        print("  of which opening:", spread(opening))
        print("another lookup of the same geometry:", spread(more))
        runs = [[float(word) for word in _fresh(path).split()] for _ in range(options.repetitions)]
        fresh = [answered for _, answered in runs]
        imports = statistics.median(imported for imported, _ in runs)
        print(f"the same, first thing in a fresh process: {spread(fresh)} (and imports, median {imports:.0f} ms)")


def _fresh(path: Path) -> str:
    command = [sys.executable, "-c", FRESH, str(path), ASKED]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
