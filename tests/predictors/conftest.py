"""A residual network written down layer by layer, and a device whose laws are known: the fixture `bench`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from hwloop.layers import Layer, Network, Node, ScalableNetwork
from hwloop.tables import Context, LatencyTable, Row, width_pair

GRAIN = 8
CONTEXT = Context("bench", "Imaginary CPU", "onnxruntime", "1.31.1", 1)


def conv(inputs: int, outputs: int, size: int, *, stride: int = 1, residual: bool = False) -> Layer:
    out = size // stride
    return Layer(
        "conv",
        ((1, inputs, size, size),),
        (1, outputs, out, out),
        kernel=(3, 3),
        stride=(stride, stride),
        padding=(1, 1, 1, 1),
        bias=True,
        activation="relu",
        residual=residual,
    )


def resnet(blocks: int) -> ScalableNetwork:
    """A CIFAR-style ResNet-(6 blocks + 2) whose stages begin with a plain strided convolution."""
    nodes: list[Node] = []
    groups: list[list[str]] = []

    def add(name: str, layer: Layer, *inputs: int) -> int:
        nodes.append(Node(name, layer, inputs))
        return len(nodes) - 1

    last, width, size = -1, 3, 32
    for stage, channels in enumerate((16, 32, 64)):
        stride = 1 if stage == 0 else 2
        last = add(f"s{stage}.first", conv(width, channels, size, stride=stride), last)
        width, size = channels, size // stride
        trunk = [f"s{stage}.first"]
        for block in range(blocks):
            inner = add(f"s{stage}.{block}.a", conv(width, width, size), last)
            last = add(f"s{stage}.{block}.b", conv(width, width, size, residual=True), inner, last)
            groups.append([f"s{stage}.{block}.a"])
            trunk.append(f"s{stage}.{block}.b")
        groups.append(trunk)
    last = add("pool", Layer("global_avg_pool", ((1, width, size, size),), (1, width, 1, 1)), last)
    last = add("flatten", Layer("flatten", ((1, width, 1, 1),), (1, width)), last)
    last = add("fc", Layer("linear", ((1, width),), (1, 10), bias=True), last)
    return ScalableNetwork(Network(tuple(nodes), ((1, 3, 32, 32),), (last,)), groups)


def true_layer_ms(layer: Layer) -> float:
    """A device that works in blocks of `GRAIN` channels, with 4 microseconds of dispatch and a bandwidth."""
    inputs, outputs = width_pair(layer)
    blocks = math.ceil(inputs / GRAIN) * math.ceil(outputs / GRAIN) * GRAIN**2
    pixels = math.prod(layer.output_shape[2:])
    work = blocks * pixels * math.prod(layer.kernel) if layer.op in ("conv", "linear") else inputs * 64
    return 0.004 + work / 4e7 + (layer.bytes_read + layer.bytes_written) / 2e7


def row(layer: Layer, noise: float = 0.0, latency_ms: float | None = None, **fields: object) -> Row:
    """A table row as a campaign of two processes would write it; the noise is seeded by the layer's key."""
    rng = np.random.default_rng(zlib.crc32(layer.key.encode()))
    medians = tuple((latency_ms or true_layer_ms(layer)) * math.exp(noise * e) for e in rng.standard_normal(2))
    latency = float(np.median(medians))
    given: dict[str, object] = {
        "key": layer.key,
        "latency_ms": latency,
        "low_ms": min(medians) * 0.99,
        "high_ms": max(medians) * 1.01,
        "process_medians_ms": medians,
        "peak_bytes": 60_000_000,
        "model_bytes": 1_000_000,
        "status": "ok",
        "reasons": (),
        "context": CONTEXT,
        "trial_ids": (f"{layer.key}:0", f"{layer.key}:1"),
    }
    return Row(**(given | fields))  # type: ignore[arg-type]  # keywords of one dataclass


def grid_rows(scalable: ScalableNetwork, shares: tuple[float, ...], noise: float = 0.0) -> Iterator[Row]:
    """Rows of every layer of a network at shares of its base widths, each once."""
    seen: set[str] = set()
    for node in scalable.network.nodes:
        layer = node.layer
        for a in shares:
            for b in shares:
                inputs = layer.in_channels if layer.in_channels == 3 else max(1, round(a * layer.in_channels))
                outputs = inputs if layer.op in ("global_avg_pool", "flatten") else round(b * layer.out_channels)
                made = layer.resized((inputs,), max(1, outputs) if layer.op != "linear" else layer.out_channels)
                if made.key not in seen:
                    seen.add(made.key)
                    yield row(made, noise)


def true_network_ms(scalable: ScalableNetwork, widths: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Whole networks: 3 of the 4 microseconds of dispatch are paid once, caches make the rest 8 % faster."""
    rng = np.random.default_rng(seed)
    found = []
    for candidate in widths:
        layers = scalable.at([int(w) for w in candidate]).layers
        isolated = sum(true_layer_ms(layer) for layer in layers if layer.op != "flatten")
        found.append(0.92 * (isolated - 0.003 * len(layers)) + 0.05)
    return np.array(found) * np.exp(noise * rng.standard_normal(len(found)))


def candidates(scalable: ScalableNetwork, count: int, seed: int = 0, step: int = 1) -> np.ndarray:
    """Random widths between an eighth of the base and the base."""
    rng = np.random.default_rng(seed)
    base = scalable.base_widths
    drawn = np.ceil(rng.uniform(0.125, 1.0, (count, len(base))) * base / step).astype(np.int64) * step
    return np.minimum(drawn, base)


@pytest.fixture(scope="session")
def bench() -> SimpleNamespace:
    """The helpers of this file (test modules cannot import a conftest)."""
    return SimpleNamespace(
        GRAIN=GRAIN,
        conv=conv,
        resnet=resnet,
        true_layer_ms=true_layer_ms,
        row=row,
        grid_rows=grid_rows,
        true_network_ms=true_network_ms,
        candidates=candidates,
    )


@pytest.fixture(scope="session")
def small() -> ScalableNetwork:
    return resnet(1)


@pytest.fixture(scope="session")
def small_table(small: ScalableNetwork) -> LatencyTable:
    return LatencyTable(grid_rows(small, (0.125, 0.5, 1.0), noise=0.005), grain=GRAIN)
