"""Which layer of a network a row of a runtime's profile belongs to. Pure.

A runtime executes another graph than the one it was given: fused nodes are named after a tensor ("…_nchwc" in
onnxruntime's blocked layout), reorders belong to no layer, and some runtimes invent all names. Rows are therefore found
by name where the names lead back to the ONNX nodes of a layer (`Node.sources`), the others by their place in the order
of execution, and what cannot be placed stays unmapped, to be shown as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import onnx

from hwloop.layers import Network
from hwloop.layers.ops import ACTIVATIONS, OPS

KINDS: Mapping[str, tuple[str, ...]] = {
    "conv": ("conv",),
    "product": ("gemm", "matmul", "dense", "linear", "addmm", "einsum", "bmm"),
    "pool": ("pool", "reducemean", "reduce_mean", "mean"),
    "concat": ("concat", "aten::cat"),
    "softmax": ("softmax",),
    "norm": ("norm",),
    "move": ("transpose", "permute", "slice", "pad", "resize", "upsample", "reshape", "flatten", "select"),
    "point": ("add", "sub", "mul", "div", "clip", "clamp", "erf", "hardswish", *ACTIVATIONS),
}
"""Kinds of work, with words by which a runtime's operators show them; the first kind that fits is meant, so that a
fused "conv2d_add_relu" is a convolution."""

FUSED_PREFIX = "fused "
SUFFIXES = re.compile(r"(_nchwc|_token_\d+)+$")
REORDER = "Reorder"


def kind_of(name: str) -> str:
    """The kind of work that a runtime's operator, or one of hwloop's operations, does; "" when it is none of them."""
    text = name.lower()
    if text.startswith(REORDER.lower()):
        return ""
    return next((kind for kind, words in KINDS.items() if any(word in text for word in words)), "")


def onnx_names(model: bytes, network: Network) -> dict[str, int]:
    """Names by which onnxruntime may call the work of each layer: of its ONNX nodes, and of what they compute.

    Args:
        model: the ONNX file that the runtime loads.
        network: its layers.

    Returns:
        Index of the layer's node in `network`, by name.
    """
    owner = {source: index for index, node in enumerate(network.nodes) for source in node.sources}
    found: dict[str, int] = {}
    for node in onnx.load_from_string(model).graph.node:
        index = owner.get(node.name)
        if index is not None:
            found.update(dict.fromkeys((node.name, *node.output), index))
    return found


def map_rows(rows: Sequence[Mapping[str, str]], network: Network, names: Mapping[str, int]) -> list[int | None]:
    """Find the layer of each row of a profile.

    Args:
        rows: with `name` and `op`, in the order of execution.
        network: the layers.
        names: layers by the runtime's names for them, as far as they are known.

    Returns:
        For each row the index of its node in `network`, or None.
    """
    found = [names.get(SUFFIXES.sub("", row["name"].removeprefix(FUSED_PREFIX))) for row in rows]
    placed = {index for index in found if index is not None}
    free_rows = [at for at, index in enumerate(found) if index is None and kind_of(rows[at]["op"])]
    free_nodes = [
        index
        for index, node in enumerate(network.nodes)
        if index not in placed and not OPS[node.layer.op].view and kind_of(node.layer.op)
    ]
    kinds = [kind_of(rows[at]["op"]) for at in free_rows], [kind_of(network.nodes[at].layer.op) for at in free_nodes]
    for row, node in _aligned(*kinds):
        found[free_rows[row]] = free_nodes[node]
    return found


def _aligned(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of equal items of two sequences, in order: their longest common subsequence."""
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in reversed(range(len(first))):
        for j in reversed(range(len(second))):
            same = first[i] == second[j]
            lengths[i][j] = lengths[i + 1][j + 1] + 1 if same else max(lengths[i + 1][j], lengths[i][j + 1])
    i = j = 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            yield i, j
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
