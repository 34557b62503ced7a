"""The yaml latency tables of once-for-all and ProxylessNAS: blocks of a mobile network on a phone.

`ofa/nas/efficiency_predictor/latency_lookup_table.py` of github.com/mit-han-lab/once-for-all builds the keys, such as
``Conv-input:224x224x3-output:112x112x32`` or
``expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0``, sizes as height x width x
channels; MobileNetV3's have ``-se:0-hs:1`` behind. A value has `mean` in ms; in the published files `count` and `var`.
H. Cai et al., ProxylessNAS (ICLR 2019), Once-for-All (ICLR 2020).

An inverted bottleneck (`expanded_conv`) is timed as a whole. It is three layers or more, so it becomes one unit that
hwloop does not execute, under a name of its own: it can be looked up, and is never taken for a layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hwloop.errors import DataError, UserError
from hwloop.layers import Layer
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.readers.source import Source, foreign_row, opaque_layer

KEY = re.compile(r"(?P<kind>\w+)-input:(?P<input>\d+(?:x\d+)*)-output:(?P<output>\d+(?:x\d+)*)(?P<rest>(?:-\w+:\d+)*)")

LEVEL = 1.96
"""Standard errors to each side of a mean: 95 %."""


def read_once_for_all(path: Path, source: Source) -> LatencyTable:
    """Read a latency table.

    Raises:
        DataError: it cannot be read, or is none; the text names the key.
    """
    try:
        content = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} is not a latency table of once-for-all: it holds no latencies by key")
    is_v3 = any("-hs:" in str(key) for key in content)
    rows = []
    for key, value in content.items():
        try:
            latency, interval, how = _latency(value)
            reason = f"from once-for-all's latency table {path.name}: {key}: {how}"
            rows.append(foreign_row(_layer(str(key), is_v3), latency, source, (reason,), interval))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: {key}: not an entry of once-for-all's latency tables: {error!r}") from error
        except UserError as error:
            raise DataError(f"{path}: {key}: {error}") from error
    return LatencyTable(rows)


def _latency(value: Mapping[str, Any]) -> tuple[float, tuple[float, float] | None, str]:
    """Mean in ms, its interval where the file has what it needs, and in words what they are."""
    mean, count, variance = float(value["mean"]), value.get("count"), value.get("var")
    if not count or variance is None:
        return mean, None, "mean of an unknown number of runs"
    error = LEVEL * math.sqrt(float(variance) / int(count))
    # A mean that is no further from 0 than its error has no low end that a latency could have.
    low = mean - error if error < mean else mean / 2
    return mean, (low, mean + error), f"mean of {count} runs with its 95 % interval"


def _layer(key: str, is_v3: bool) -> Layer:
    match = KEY.fullmatch(key)
    if match is None:
        raise ValueError("its key has another form")
    inputs, output = _shape(match["input"]), _shape(match["output"])
    kind, options = match["kind"], match["rest"].lstrip("-").replace("-", " ")
    activation = "hard_swish" if is_v3 else "relu6"
    if kind == "Conv":  # the first convolution: 3x3, down by two
        window: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
        return Layer("conv", (inputs,), output, **window, bias=True, activation=activation)
    if kind in ("Conv_1", "Conv_2"):
        return Layer("conv", (inputs,), output, bias=True, activation=activation)
    if kind == "AvgPool2D":
        return Layer("global_avg_pool", (inputs,), output)
    if kind == "Logits" and inputs[2:] == (1, 1):
        return Layer("linear", (inputs[:2],), output, bias=True)
    return opaque_layer(f"once-for-all {kind} {options}".rstrip(), (inputs,), output)


def _shape(text: str) -> tuple[int, ...]:
    """HxWxC, or the number of classes, as a shape with the batch of one."""
    *sizes, channels = (int(size) for size in text.split("x"))
    if len(sizes) not in (0, 2):
        raise ValueError(f"{text} is not height x width x channels")
    return (1, channels, *sizes)
