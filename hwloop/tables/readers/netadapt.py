"""NetAdapt's lookup table: a grid of widths for every convolution and linear layer of one network.

The file is what `build_latency_lookup_table` of github.com/denru01/netadapt pickles: layer name -> properties
(`layer_type_str`, `is_depthwise`, `kernel_size`, `stride`, `padding`, `groups`, `input_feature_map_size`) and
`latency`, a map from (input channels, output channels) to the mean of wall times in seconds. The layers are plain torch
modules: a bias, and nothing fused. T.-J. Yang et al., NetAdapt, ECCV 2018.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwloop.errors import DataError, ModelError, UserError
from hwloop.layers import Layer
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.readers.source import Source, foreign_row, opaque_layer
from hwloop.tables.row import Row

MS_PER_S = 1e3


class _Plain(pickle.Unpickler):
    """Unpickles built-in containers and numbers and nothing else: a pickle of somebody else may run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which a lookup table has no use for")


def read_netadapt(path: Path, source: Source, batch: int) -> LatencyTable:
    """Read a lookup table.

    Args:
        path: of the pickle. Only containers and numbers are unpickled, so a hostile file can do nothing.
        source: what is known about its origin.
        batch: images per batch that it was measured with; the file does not tell (the script's default is 128).

    Raises:
        DataError: it cannot be read, or is no lookup table; the text names the layer.
    """
    try:
        content = _Plain(io.BytesIO(path.read_bytes())).load()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(f"{path} is not a lookup table of NetAdapt: {error}") from error
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} is not a lookup table of NetAdapt: it holds no layers by name")
    reason = f"from NetAdapt's lookup table {path.name}: mean of an unknown number of runs, batch {batch}"
    rows: dict[str, Row] = {}
    for name, properties in content.items():
        try:
            grid = properties["latency"]
            for (inputs, outputs), seconds in grid.items():
                layer = _layer(properties, int(inputs), int(outputs), batch)
                # Layers of equal properties share a grid: the same numbers under several names.
                rows.setdefault(layer.key, foreign_row(layer, MS_PER_S * float(seconds), source, (reason,)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"{path}: layer {name!r} is not one of a lookup table: {error!r}") from error
        except (UserError, ModelError) as error:
            raise DataError(f"{path}: layer {name!r}: {error}") from error
    return LatencyTable(rows.values())


def _layer(properties: Mapping[str, Any], inputs: int, outputs: int, batch: int) -> Layer:
    kind = properties["layer_type_str"]
    if kind == "Linear":
        return Layer("linear", ((batch, inputs),), (batch, outputs), bias=True)
    kernel, stride, padding = (_pair(properties[name]) for name in ("kernel_size", "stride", "padding"))
    height, width = (int(size) for size in properties["input_feature_map_size"][2:4])
    groups = inputs if properties["is_depthwise"] else int(properties["groups"])
    if kind == "Conv2d":
        return Layer(
            "conv",
            ((batch, inputs, height, width),),
            (batch, outputs, *_sizes((height, width), kernel, stride, padding)),
            kernel=kernel,
            stride=stride,
            padding=(*padding, *padding),
            groups=groups,
            bias=True,
        )
    if kind == "ConvTranspose2d":
        size = [(n - 1) * s - 2 * p + k for n, k, s, p in zip((height, width), kernel, stride, padding, strict=True)]
        (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
        name = f"ConvTranspose2d k{kh}x{kw} s{sh}x{sw} p{ph}x{pw} {'depthwise' if groups == inputs else f'g{groups}'}"
        return opaque_layer(name, ((batch, inputs, height, width),), (batch, outputs, *size))
    raise ValueError(f"a layer of type {kind!r}")


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)


def _sizes(
    sizes: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True))
    return height, width
