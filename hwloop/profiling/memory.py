"""Memory of layers and networks: every figure with the method by which it was found. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hwloop.layers import Layer, Network
from hwloop.profiling.result import Bytes, ProfileRow

SHAPES = "computed from the shapes, as float32"
PEAK, BASE, MODEL, WEIGHTS, PLANNED, BEYOND = (
    "peak resident set",
    "runtime's base",
    "model's part of the peak",
    "weights",
    "planned peak of activations",
    "beyond weights and activations",
)
PHASES = {"load_peak_bytes": "peak while loading", "run_peak_bytes": "peak while running"}


def network_memory(
    records: Sequence[Mapping[str, Any]], network: Network | None, rows: Sequence[ProfileRow] = ()
) -> tuple[Bytes, ...]:
    """The memory figures of a whole network.

    Args:
        records: its usable trials; a figure is the median over them.
        network: its layers, where they could be read.
        rows: of its profile, if any.
    """
    found = _process(records)
    for what, name in PHASES.items():
        found += _median(name, [record["memory"].get(what) for record in records], _method(records))
    if network is not None:
        found.append(Bytes(what=WEIGHTS, bytes=network.weight_bytes, method=SHAPES))
        planned = network.peak_activation_bytes
        method = f"{SHAPES}: tensors that are live together, none in the place of another"
        found.append(Bytes(what=PLANNED, bytes=planned, method=method))
    found += _own(records)
    held = [row.memory["arena_bytes"] for row in rows if "arena_bytes" in row.memory]
    if held:
        found.append(Bytes(what="peak of the runtime's arena", bytes=max(held), method="the runtime's profile"))
    return tuple(found)


def layer_memory(layer: Layer, records: Sequence[Mapping[str, Any]]) -> tuple[Bytes, ...]:
    """The memory figures of a layer that was measured alone.

    What a process needs beyond the layer's weights and tensors is the runtime's workspace and its own structures
    together; where the runtime has statistics of its own, they are there too.
    """
    activations = layer.bytes_read - layer.weight_bytes + layer.output_bytes
    found = [
        Bytes(what=WEIGHTS, bytes=layer.weight_bytes, method=SHAPES),
        Bytes(what="activations", bytes=activations, method=f"{SHAPES}: inputs and output"),
        *_process(records),
    ]
    part = next((one for one in found if one.what == MODEL), None)
    if part is not None:
        rest = max(part.bytes - layer.weight_bytes - activations, 0)
        found.append(Bytes(what=BEYOND, bytes=rest, method=f"{part.method}, less both"))
    return (*found, *_own(records))


def _process(records: Sequence[Mapping[str, Any]]) -> list[Bytes]:
    method = _method(records)
    figures = (
        (PEAK, "peak_bytes", method),
        (BASE, "base_bytes", "resident set after the import"),
        (MODEL, "model_bytes", f"{method}, less the base"),
    )
    return [one for name, key, how in figures for one in _median(name, [r["memory"].get(key) for r in records], how)]


def _own(records: Sequence[Mapping[str, Any]]) -> list[Bytes]:
    """The runtime's own statistics."""
    stats = [record["memory"].get("runtime") or {} for record in records]
    names = dict.fromkeys(name for one in stats for name in one if name.endswith("_bytes"))
    found: list[Bytes] = []
    for name in names:
        method = next(str(one.get("method", "the runtime's own")) for one in stats if name in one)
        what = "runtime: " + name.removesuffix("_bytes").replace("_", " ")
        found += _median(what, [one.get(name) for one in stats], method)
    return found


def _method(records: Sequence[Mapping[str, Any]]) -> str:
    return str(records[0]["memory"]["method"]) if records else ""


def _median(what: str, values: Sequence[int | None], method: str) -> list[Bytes]:
    known = [value for value in values if value is not None]
    return [Bytes(what=what, bytes=int(statistics.median(known)), method=method)] if known else []
