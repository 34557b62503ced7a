"""What a predictor sees of a network: labels of its neighbourhoods, the work of its layers, and its size and shape."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hwloop.layers import Layer, Network
from hwloop.predictors.graph.flow import Flow
from hwloop.predictors.graph.labels import VIEWS, count_labels, layer_label

GRAINS = (8, 16)
"""Channel blocks: runtimes that vectorise over channels do the work of whole blocks."""

SIZES = (
    "layers",
    "macs",
    "bytes moved",
    "weight bytes",
    "largest working set",
    "depth",
    "macs on the longest path",
    "convolutions on the longest path",
    "forks",
    "layers per level",
)
"""Names of `Description.sizes`; logarithms of 1 + each."""


WORK = ("bytes", "macs", "blocks")
"""Work of the layers of one label and size of map: bytes moved, MACs, and MACs in whole blocks of channels."""

KINDS = ("layer", *VIEWS, *WORK)
"""Kinds of what is counted in a network."""

FLOWS: Mapping[str, Callable[[Network], Flow]] = {"everything": Flow.everything, "live": Flow.live}
"""What may be executed of a network."""


@dataclass(frozen=True)
class Description:
    """A network, described for a kernel; nothing depends on names of nodes or on the order of the schedule.

    Attributes:
        counts: by kind (of `KINDS`) and column: how often a label occurs, or how much work there is.
        sizes: see `SIZES`.
    """

    counts: Mapping[str, Mapping[str, float]]
    sizes: tuple[float, ...]


def describe(flow: Flow) -> Description:
    """Describe what is executed of a network."""
    traits = [_traits(layer) for layer in flow.layers]
    work: dict[str, defaultdict[str, float]] = {kind: defaultdict(float) for kind in WORK}
    for trait, times in Counter(traits).items():
        for kind, column, amount in trait.work:
            work[kind][column] += times * amount
    labels = count_labels([trait.label for trait in traits], flow)
    return Description({**labels, **work}, _sizes(flow, traits))


@dataclass(frozen=True, eq=False)
class _Traits:
    """What a layer contributes; one object for all equal layers."""

    label: str
    macs: int
    bytes_moved: int
    weight_bytes: int
    convolution: int
    work: tuple[tuple[str, str, float], ...]


@lru_cache(maxsize=1 << 16)
def _traits(layer: Layer) -> _Traits:
    label, macs, moved = layer_label(layer), layer.macs, layer.bytes_read + layer.bytes_written
    pixels = math.prod(layer.output_shape[2:]) if len(layer.output_shape) > 2 else 1
    where = f"{label} @{pixels}"
    work: list[tuple[str, str, float]] = [("bytes", where, moved)] if moved else []
    if macs:
        work.append(("macs", where, macs))
        work += [("blocks", f"{where} of {grain}", macs * _padding(layer, grain)) for grain in GRAINS]
    return _Traits(label, macs, moved, layer.weight_bytes, int(layer.op == "conv"), tuple(work))


def _padding(layer: Layer, grain: int) -> float:
    """How much the work grows when channels are rounded up to whole blocks."""
    padded = 1.0
    widths = (layer.out_channels,) if layer.depthwise else (layer.in_channels, layer.out_channels)
    for width in widths:
        if width:
            padded *= math.ceil(width / grain) * grain / width
    return padded


def _sizes(flow: Flow, traits: Sequence[_Traits]) -> tuple[float, ...]:
    # The longest paths end at place -1: before the first layer, after the last one read.
    depth, macs, convolutions = ([0] * (len(traits) + 1) for _ in range(3))
    for index, (trait, sources) in enumerate(zip(traits, flow.inputs, strict=True)):
        first, *others = sources or (-1,)
        deepest, heaviest, most = depth[first], macs[first], convolutions[first]
        for source in others:
            deepest, heaviest = max(deepest, depth[source]), max(heaviest, macs[source])
            most = max(most, convolutions[source])
        depth[index] = deepest + 1
        macs[index] = heaviest + trait.macs
        convolutions[index] = most + trait.convolution
    longest = max(depth)
    sizes = (
        len(traits),
        sum(trait.macs for trait in traits),
        sum(trait.bytes_moved for trait in traits),
        sum(trait.weight_bytes for trait in traits),
        max((trait.bytes_moved - trait.weight_bytes for trait in traits), default=0),
        longest,
        max(macs),
        max(convolutions),
        sum(max(0, len(readers) - 1) for readers in flow.readers),
        len(traits) / max(longest, 1),
    )
    return tuple(math.log1p(size) for size in sizes)


@dataclass(frozen=True)
class Described:
    """The descriptions of n networks, to be used more than once: they take longer than a prediction.

    Attributes:
        by_flow: n descriptions for each of some `FLOWS`.
    """

    by_flow: Mapping[str, tuple[Description, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.by_flow.values())))

    def take(self, indices: Iterable[int]) -> Described:
        """The descriptions of some of the networks."""
        chosen = list(indices)
        return Described({flow: tuple(found[index] for index in chosen) for flow, found in self.by_flow.items()})

    def choices(self) -> list[tuple[str, ...]]:
        """What may be executed, as sets of flows; without dead layers all flows are the same."""
        flows = tuple(self.by_flow)
        first, *others = self.by_flow.values()
        if all(other == first for other in others):
            return [flows[:1]]
        return [*((flow,) for flow in flows), flows]


def describe_networks(networks: Sequence[Network], flows: Sequence[str] = tuple(FLOWS)) -> Described:
    """Describe networks by each of the flows."""
    return Described({flow: tuple(describe(FLOWS[flow](network)) for network in networks) for flow in flows})
