"""Writes programs of ATen calls: `.calls` files, which the agent's torch runtime turns into a graph of torch.fx.

Layers and exported networks are written alike. torch's own format for exported programs (`.pt2`) is not used: its
reader unpickles parts of the file, so that a file can run code on the board; it imports 70 MB of modules in every
process, for seconds; and a file of one version of torch need not open in another. A program here is names of ATen
operators and plain tensors. Writing a layer takes no torch.

The format, of which `hwloop_agent.runtimes.torch_calls` is the reader: a line of magic, a line of JSON, and the raw
little-endian tensors::

    {"inputs": ["input_0"], "tensors": [{"dtype": "float32", "shape": [16], "offset": 0}],
     "calls": [{"op": "relu.default", "args": [{"value": 0}]}], "outputs": [{"value": 1}]}

Values are numbered: first the inputs, then the results of the calls. References and what JSON does not know are
objects: {"value": 3}, {"tensor": 0}, {"dtype": "float32"}, {"memory_format": "contiguous_format"}, {"device": "cpu"}.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hwloop.layers import Layer
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.seeding import Array, SeededValues

MAGIC = b"hwloop calls 1\n"
SUFFIX = ".calls"
ALIGNMENT = 64

Value = dict[str, Any]
"""A reference: {"value": 3} is an input or the result of a call, {"tensor": 1} a constant."""


class CallsWriter:
    """Inputs, constants and calls of one program; the calls are chained by the values that they return."""

    def __init__(self) -> None:
        """Start an empty program."""
        self._inputs: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._tensors: list[dict[str, Any]] = []
        self._data = bytearray()

    def input(self, name: str) -> Value:
        """Declare an input; all of them come before the first call."""
        self._inputs.append(name)
        return {"value": len(self._inputs) - 1}

    def tensor(self, data: bytes, dtype: str, shape: tuple[int, ...], *, channels_last: bool = False) -> Value:
        """Add a constant from its bytes, which are in the order of its shape, also with the channels last."""
        one: dict[str, Any] = {"dtype": dtype, "shape": list(shape), "offset": len(self._data)}
        if channels_last:
            one["channels_last"] = True
        self._data += data
        self._data += bytes(-len(self._data) % ALIGNMENT)
        self._tensors.append(one)
        return {"tensor": len(self._tensors) - 1}

    def call(self, operator: str, *arguments: Any, name: str = "", keywords: dict[str, Any] | None = None) -> Value:
        """Call `aten.<operator>` with references, numbers, texts, None, and lists of them; `name` is for profiles."""
        one: dict[str, Any] = {"op": operator, "args": list(arguments)}
        if keywords:
            one["kwargs"] = keywords
        if name:
            one["name"] = name
        self._calls.append(one)
        return {"value": len(self._inputs) + len(self._calls) - 1}

    def finish(self, *outputs: Value) -> bytes:
        """The file."""
        head = {"inputs": self._inputs, "tensors": self._tensors, "calls": self._calls, "outputs": list(outputs)}
        return MAGIC + json.dumps(head, separators=(",", ":")).encode() + b"\n" + bytes(self._data)


class LayerBuilder(CallsWriter):
    """The calls of one layer, with seeded constants."""

    def __init__(self, layer: Layer, seed: int, dtype: str, channels_last: bool) -> None:
        """Start the calls of `layer`; `dtype` is that of its constants, "float32" or "bfloat16"."""
        super().__init__()
        self.layer = layer
        self.values = SeededValues(layer, seed)
        self._dtype = dtype
        self._channels_last = channels_last

    def feed(self, name: str, shape: tuple[int, ...]) -> Value:
        """Declare a seeded input."""
        return self.input(self.values.input(name, shape).name)

    def constant(self, values: Array) -> Value:
        """Add a constant."""
        data = np.ascontiguousarray(values, np.float32)
        stored = to_bfloat16(data) if self._dtype == "bfloat16" else data
        return self.tensor(
            stored.tobytes(), self._dtype, values.shape, channels_last=self._channels_last and data.ndim == 4
        )

    def vector(self, size: int) -> Value:
        """Add seeded values between 0.5 and 1.5."""
        return self.constant(self.values.vector(size))

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What to feed."""
        return tuple(self.values.inputs)


def to_bfloat16(values: Array) -> Array:
    """The upper halves of float32 values, rounded to nearest even, as uint16; the values are finite."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
