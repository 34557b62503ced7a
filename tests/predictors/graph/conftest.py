"""Small residual networks of random widths and depths, and the laws of imaginary devices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hwloop.layers import Layer, Network, Node


def conv(inputs: int, outputs: int, size: int, *, kernel: int = 3) -> Layer:
    return Layer(
        "conv",
        ((1, inputs, size, size),),
        (1, outputs, size, size),
        kernel=(kernel, kernel),
        padding=(kernel // 2,) * 4,
        bias=True,
        activation="relu",
    )


def chain(widths: list[int], size: int = 16, *, kernels: list[int] | None = None, dead: int = 0) -> Network:
    """Convolutions one after the other; `dead` more whose results nobody reads."""
    nodes, last, channels = [], -1, 3
    for place, width in enumerate(widths):
        kernel = kernels[place] if kernels else 3
        nodes.append(Node(f"conv{place}", conv(channels, width, size, kernel=kernel), (last,)))
        last, channels = place, width
    output = len(nodes) - 1
    nodes += [Node(f"dead{place}", conv(channels, channels, size), (output,)) for place in range(dead)]
    return Network(tuple(nodes), ((1, 3, size, size),), (output,))


def diamond(left: int, right: int, *, swapped: bool = False, prefix: str = "") -> Network:
    """Two branches of some 3x3 convolutions that are added; `swapped` schedules and adds the right one first."""
    nodes = [Node(f"{prefix}stem", conv(3, 8, 16), (-1,))]
    ends = []
    for branch, count in sorted((("left", left), ("right", right)), reverse=swapped):
        last = 0
        for place in range(count):
            kernel = 3 if branch == "left" else 1
            nodes.append(Node(f"{prefix}{branch}{place}", conv(8, 8, 16, kernel=kernel), (last,)))
            last = len(nodes) - 1
        ends.append(last)
    shape = (1, 8, 16, 16)
    nodes.append(Node(f"{prefix}sum", Layer("add", (shape, shape), shape), tuple(ends)))
    return Network(tuple(nodes), ((1, 3, 16, 16),), (len(nodes) - 1,))


def random_chains(count: int, seed: int, *, dead: bool = False) -> list[Network]:
    """Chains of 3 to 6 convolutions with 4 to 64 channels, some of kernel 1."""
    rng = np.random.default_rng(seed)
    networks = []
    for _ in range(count):
        length = int(rng.integers(3, 7))
        widths = [int(width) for width in rng.integers(4, 65, length)]
        kernels = [int(kernel) for kernel in rng.choice([1, 3], length)]
        networks.append(chain(widths, kernels=kernels, dead=int(rng.integers(0, 4)) if dead else 0))
    return networks


def latency(network: Network, *, live_only: bool = False, block: int = 8) -> float:
    """A device that dispatches, moves bytes and multiplies whole blocks of channels."""
    total = 0.05
    for node in network.nodes:
        if live_only and node.name.startswith("dead"):
            continue
        layer = node.layer
        blocks = math.ceil(layer.out_channels / block) * block / layer.out_channels
        total += 0.02 + layer.macs * blocks * 1e-7 + (layer.bytes_read + layer.bytes_written) * 5e-7
    return total


def latencies(
    networks: list[Network], *, noise: float = 0.0, seed: int = 0, live_only: bool = False
) -> NDArray[np.float64]:
    clean = np.array([latency(network, live_only=live_only) for network in networks])
    return clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(clean)))


@pytest.fixture(scope="session")
def hundred() -> tuple[list[Network], NDArray[np.float64]]:
    """100 chains with 3 % of noise."""
    networks = random_chains(100, 1)
    return networks, latencies(networks, noise=0.03)
