"""nn-Meter's kernel data: one CSV for each kind of kernel.

`build_predictor_by_data` of github.com/microsoft/nn-Meter saves them as ``collection/Data_<kernel>_<mark>.csv``: the
column `model_path`, the kernel's configuration (`HW`, `CIN`, `COUT`, `KERNEL_SIZE`, `STRIDES` or `POOL_STRIDES`; for
concat `CIN1` to `CIN4`, 0 where there are fewer inputs), features that were derived from it (`feature_0` …), and
`latency`, a mean in ms. `feature_for_kernel` in `extract_feature.py` is the list of kernels. Kernels are TensorFlow's,
batch 1 by default, padding SAME. L. L. Zhang et al., nn-Meter, MobiSys 2021.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from hwloop.errors import DataError, UserError
from hwloop.layers import Layer
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.readers.source import Source, foreign_row, opaque_layer

ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "hswish": "hard_swish"}

CONFIGURED = ("HW", "CIN", "COUT", "KERNEL_SIZE", "STRIDES")
POOLED = ("HW", "CIN", "KERNEL_SIZE", "POOL_STRIDES")
CONCAT_INPUTS = ("CIN1", "CIN2", "CIN3", "CIN4")

KERNELS: Mapping[str, tuple[str, ...]] = {
    **{
        f"{op}-{rest}": CONFIGURED
        for op in ("conv", "dwconv")
        for rest in ("bn-relu", "bn-relu6", "bn", "relu", "relu6", "hswish", "block", "bn-hswish")
    },
    **dict.fromkeys(("maxpool", "avgpool"), POOLED),
    "fc": ("CIN", "COUT"),
    "concat": ("HW", *CONCAT_INPUTS),
    **dict.fromkeys(
        ("split", "channelshuffle", "se", "global-avgpool", "bnrelu", "bn", "hswish", "relu", "addrelu", "add"),
        ("HW", "CIN"),
    ),
}
"""Columns that each kind of kernel has."""

FILE_NAME = re.compile(r"Data_(?P<kernel>.+)_[^_]*\.csv")


def kernel_of(path: Path) -> str | None:
    """Return the kind of kernel that a file's name tells, None where it tells none."""
    match = FILE_NAME.fullmatch(path.name)
    return match["kernel"] if match is not None and match["kernel"] in KERNELS else None


def read_nn_meter(path: Path, source: Source, kernel: str | None = None) -> LatencyTable:
    """Read a file of kernel data.

    Args:
        path: of the CSV.
        source: what is known about its origin.
        kernel: of `KERNELS`; by default what the file's name tells.

    Raises:
        DataError: it cannot be read, or is none; the text names the line.
    """
    kind = kernel or kernel_of(path)
    if kind is None:
        raise DataError(f"{path}: its name is not Data_<kernel>_<mark>.csv; say which kernel its rows are")
    if kind not in KERNELS:
        raise DataError(f"{kind!r} is no kernel of nn-Meter; known are {', '.join(KERNELS)}")
    reason = f"from nn-Meter's kernel data {path.name}: mean of an unknown number of runs, padding SAME assumed"
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            # `add` has the column CIN twice: the last one counts, they are equal.
            names = next(reader, [])
            missing = [name for name in (*KERNELS[kind], "latency") if name not in names]
            if missing:
                raise DataError(f"{path} lacks the columns {', '.join(missing)} of {kind}")
            for cells in reader:
                try:
                    values = dict(zip(names, cells, strict=True))
                    sizes = {name: _whole(values[name]) for name in KERNELS[kind]}
                    rows.append(foreign_row(_layer(kind, sizes), float(values["latency"]), source, (reason,)))
                except (ValueError, UserError) as error:
                    raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return LatencyTable(rows)


def _layer(kind: str, sizes: Mapping[str, int]) -> Layer:
    if kind == "fc":
        return Layer("linear", ((1, sizes["CIN"]),), (1, sizes["COUT"]), bias=True)
    size = sizes["HW"]
    if kind == "concat":
        widths = [sizes[name] for name in CONCAT_INPUTS if sizes[name]]
        inputs = tuple((1, width, size, size) for width in widths)
        return Layer("concat", inputs, (1, sum(widths), size, size), detail="axis=1")
    shape = (1, sizes["CIN"], size, size)
    if kind == "global-avgpool":
        return Layer("global_avg_pool", (shape,), (1, sizes["CIN"], 1, 1))
    if kind in ("maxpool", "avgpool"):
        return _window(kind.replace("pool", "_pool"), shape, sizes["CIN"], sizes["KERNEL_SIZE"], sizes["POOL_STRIDES"])
    op, _, rest = kind.partition("-")
    if op in ("conv", "dwconv"):
        outputs, groups = (sizes["CIN"], sizes["CIN"]) if op == "dwconv" else (sizes["COUT"], 1)
        activation = ACTIVATIONS.get(rest.rpartition("-")[2], "")
        return _window("conv", shape, outputs, sizes["KERNEL_SIZE"], sizes["STRIDES"], groups, activation)
    if kind in ("add", "addrelu"):
        return Layer("add", (shape, shape), shape, activation="relu" if kind == "addrelu" else "")
    if kind in ("bn", "bnrelu"):
        return Layer("batch_norm", (shape,), shape, activation="relu" if kind == "bnrelu" else "")
    if kind in ACTIVATIONS:
        return Layer(ACTIVATIONS[kind], (shape,), shape)
    return opaque_layer(f"nn-Meter {kind}", (shape,), shape)


def _window(
    op: str, shape: tuple[int, ...], outputs: int, kernel: int, stride: int, groups: int = 1, activation: str = ""
) -> Layer:
    """A layer with a square kernel and TensorFlow's padding SAME: what is odd is added below and on the right."""
    size = shape[2]
    out = -(-size // stride)
    before, odd = divmod(max((out - 1) * stride + kernel - size, 0), 2)
    return Layer(
        op,
        (shape,),
        (1, outputs, out, out),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(before, before, before + odd, before + odd),
        groups=groups,
        bias=op == "conv",
        activation=activation,
    )


def _whole(text: str) -> int:
    number = float(text)
    if not number.is_integer() or number < 0:
        raise ValueError(f"{text} is not a whole number")
    return int(number)
