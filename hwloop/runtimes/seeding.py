"""Seeded weights and inputs that keep the values of a small model in a realistic range, whatever its file format.

Weights have He's variance (He et al. 2015, section 2.2) and inputs variance 1, so that values stay in the range of a
trained network: with small weights activations become subnormal, which fakes a slow-down of 9 to 14 times.

The same layer and seed give the same values to every runtime, in torch's layout: runtimes can be compared.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.layers import Layer
from hwloop.runtimes.artifact import InputSpec

RANDOM_VALUES = 65_521
"""Weights repeat after this many values, as drawing millions takes long. A prime, so that rows differ."""
FEW = 64
"""With fewer outputs they could all be negative, and a ReLU's result exactly zero: then all is drawn positive."""

Array = NDArray[Any]


class SeededValues:
    """The constants and inputs of one layer, drawn one after the other."""

    def __init__(self, layer: Layer, seed: int) -> None:
        """Start the stream of `layer` and `seed`."""
        self.layer = layer
        self._seed = seed
        self._positive = math.prod(layer.output_shape) < FEW
        digest = hashlib.sha256(f"{layer.key} {seed}".encode()).digest()
        self._random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        self.inputs: list[InputSpec] = []

    def input(self, name: str, shape: tuple[int, ...]) -> InputSpec:
        """Declare the next input."""
        # Numerator and denominator of a quotient are the same values: a random denominator can be almost zero.
        seed = self._seed if self.layer.op == "div" else self._seed + len(self.inputs)
        distribution = "uniform" if self._positive else "normal"
        self.inputs.append(InputSpec(name, shape, self.layer.dtype, distribution, seed))
        return self.inputs[-1]

    def weight(self, shape: tuple[int, ...], fan_in: int) -> Array:
        """Draw weights with variance 2 / fan_in."""
        count = math.prod(shape)
        values = self._random.standard_normal(min(count, RANDOM_VALUES), dtype=np.float32)
        values *= np.float32(math.sqrt(2.0 / fan_in))
        if self._positive:
            values = np.abs(values)
        return np.resize(values, shape)

    def vector(self, size: int) -> Array:
        """Draw values between 0.5 and 1.5: scales, shifts, slopes, variances."""
        return self._random.random(size, dtype=np.float32) + np.float32(0.5)

    def conv(self) -> tuple[Array, Array | None]:
        """Draw the weights (out, in / groups, height, width) and the bias, if any, of a convolution."""
        layer = self.layer
        inner = layer.in_channels // layer.groups
        weight = self.weight((layer.out_channels, inner, *layer.kernel), inner * math.prod(layer.kernel))
        return weight, self.vector(layer.out_channels) if layer.bias else None

    def linear(self) -> tuple[Array, Array | None]:
        """Draw the weights (out, in) and the bias, if any, of a linear layer."""
        layer = self.layer
        weight = self.weight((layer.out_channels, layer.in_channels), layer.in_channels)
        return weight, self.vector(layer.out_channels) if layer.bias else None

    def batch_norm(self) -> tuple[Array, Array, Array, Array]:
        """Draw scale, shift, mean and variance of a batch normalisation."""
        channels = self.layer.out_channels
        scale, shift, mean, variance = (self.vector(channels) for _ in range(4))
        return scale, shift, mean, variance
