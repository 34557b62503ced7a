"""Seeded inputs and descriptions of outputs, for runtimes that speak numpy."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np

from hwloop_agent.runtimes import Output, UnsupportedError

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool")
INTEGER_HIGH = 100
# Of an output that is kept: as base64, four of them fit a line of the protocol.
MAX_KEPT = 1 << 15


def draw(spec: Dict[str, Any]) -> Any:
    """Return the array that an `InputSpec` describes; the same seed gives the same array on every machine.

    `normal` has mean 0 and variance 1, `uniform` lies in [0, 1), `integers` in [0, 100) ([0, 2) for bool).

    Raises:
        UnsupportedError: the dtype and the distribution do not go together.
    """
    dtype, distribution = spec["dtype"], spec["distribution"]
    generator = np.random.default_rng(spec["seed"])
    shape = tuple(spec["shape"])
    if distribution == "integers":
        return generator.integers(0, 2 if dtype == "bool" else INTEGER_HIGH, size=shape).astype(dtype)
    if not dtype.startswith("float"):
        raise UnsupportedError(f"{dtype} inputs are drawn from integers, not from {distribution}")
    values = generator.standard_normal(shape) if distribution == "normal" else generator.random(shape)
    return values.astype(dtype)


def describe(name: str, value: Any) -> Optional[Output]:
    """Return the description of one output; None when it holds no real numbers (labels, sequences)."""
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.size == 0:
        return None
    finite = bool(np.isfinite(array).all())
    largest = float(np.abs(array.astype("float64")).max()) if finite else 0.0
    data = array.astype("<f4").tobytes() if array.size <= MAX_KEPT else None
    return Output(name, array.shape, finite, largest, data)
