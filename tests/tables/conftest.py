"""Rows of an imaginary device."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwloop.layers import Layer
from hwloop.tables import Context, Row

MakeRow = Callable[..., Row]
MakeConv = Callable[..., Layer]


@pytest.fixture(scope="session")
def context() -> Context:
    return Context("bench", "Imaginary CPU", "onnxruntime", "1.31.1", 1)


@pytest.fixture(scope="session")
def conv() -> MakeConv:
    """A 3x3 convolution of a 16x16 map."""

    def make(inputs: int, outputs: int, *, size: int = 16, groups: int = 1, residual: bool = False) -> Layer:
        return Layer(
            "conv",
            ((1, inputs, size, size),),
            (1, outputs, size, size),
            kernel=(3, 3),
            padding=(1, 1, 1, 1),
            groups=groups,
            bias=True,
            activation="relu",
            residual=residual,
        )

    return make


@pytest.fixture(scope="session")
def make_row(context: Context) -> MakeRow:
    """A usable row whose interval is one per cent to each side; every field can be replaced."""

    def make(layer: Layer, latency_ms: float, **fields: object) -> Row:
        given: dict[str, object] = {
            "key": layer.key,
            "latency_ms": latency_ms,
            "low_ms": latency_ms * 0.99,
            "high_ms": latency_ms * 1.01,
            "process_medians_ms": (latency_ms, latency_ms),
            "peak_bytes": 60_000_000,
            "model_bytes": 1_000_000,
            "status": "ok",
            "reasons": (),
            "context": context,
        }
        return Row(**(given | fields))  # type: ignore[arg-type]  # keywords of one dataclass

    return make
