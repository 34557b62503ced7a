"""The text form of a `Layer`: canonical, readable, and exactly invertible.

::

    conv 1x16x32x32>1x32x16x16 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32
    linear 1x400>1x120 bias relu float32
    concat 1x16x8x8,1x8x8x8>1x24x8x8 float32 detail="axis=1"

Shapes are joined by ``x``, several inputs by ``,``; ``()`` is a scalar and ``-`` means no data input. Geometry is
written for convolutions and pools only. ``p`` is top, left, bottom, right.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hwloop.errors import ModelError
from hwloop.layers.ops import ACTIVATIONS, ITEM_BYTES, OPS

if TYPE_CHECKING:
    from hwloop.layers.layer import Layer

Shape = tuple[int, ...]

_KEY = re.compile(
    r"(?P<op>\w+) (?P<inputs>[-()x,\d]+)>(?P<output>[()x\d]+)"
    r"(?: k(?P<kernel>\d+x\d+) s(?P<stride>\d+x\d+) p(?P<padding>\d+,\d+,\d+,\d+) d(?P<dilation>\d+x\d+))?"
    r"(?: g(?P<groups>\d+))?"
    r"(?P<bias> bias)?"
    rf"(?: (?P<activation>{'|'.join(sorted(ACTIVATIONS, key=len, reverse=True))}))?"
    r"(?P<residual> \+add)?"
    rf" (?P<dtype>{'|'.join(ITEM_BYTES)})"
    r"(?: detail=(?P<detail>\".*\"))?"
)


def format_key(layer: Layer) -> str:
    """Write a layer's key."""
    inputs = ",".join(_format_shape(shape) for shape in layer.input_shapes) or "-"
    parts = [layer.op, f"{inputs}>{_format_shape(layer.output_shape)}"]
    if OPS[layer.op].geometry:
        (kh, kw), (sh, sw), (dh, dw) = layer.kernel, layer.stride, layer.dilation
        parts += [f"k{kh}x{kw}", f"s{sh}x{sw}", f"p{','.join(map(str, layer.padding))}", f"d{dh}x{dw}"]
    if layer.op == "conv":
        parts.append(f"g{layer.groups}")
    if layer.bias:
        parts.append("bias")
    if layer.activation:
        parts.append(layer.activation)
    if layer.residual:
        parts.append("+add")
    parts.append(layer.dtype)
    if layer.detail:
        parts.append(f"detail={json.dumps(layer.detail)}")
    return " ".join(parts)


def parse_key(key: str) -> dict[str, Any]:
    """Read a key back into the fields of `Layer`.

    Raises:
        ModelError: the text is not a key.
    """
    match = _KEY.fullmatch(key)
    if match is None or match["op"] not in OPS:
        raise ModelError(f"{key!r} is not a layer key, such as 'linear 1x400>1x120 bias relu float32'")
    try:
        fields: dict[str, Any] = {
            "op": match["op"],
            "input_shapes": () if match["inputs"] == "-" else tuple(map(_parse_shape, match["inputs"].split(","))),
            "output_shape": _parse_shape(match["output"]),
            "bias": match["bias"] is not None,
            "activation": match["activation"] or "",
            "residual": match["residual"] is not None,
            "dtype": match["dtype"],
            "detail": json.loads(match["detail"]) if match["detail"] else "",
        }
    except ValueError as error:
        raise ModelError(f"{key!r} is not a layer key: {error}") from None
    if match["kernel"]:
        fields |= {name: _pair(match[name]) for name in ("kernel", "stride", "dilation")}
        fields["padding"] = tuple(int(value) for value in match["padding"].split(","))
    if match["groups"]:
        fields["groups"] = int(match["groups"])
    return fields


def _format_shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "()"


def _parse_shape(text: str) -> Shape:
    return () if text == "()" else tuple(int(size) for size in text.split("x"))


def _pair(text: str) -> tuple[int, int]:
    first, second = text.split("x")
    return int(first), int(second)
