"""Labels of layers and their neighbourhoods, in the manner of Weisfeiler and Lehman.

Shervashidze et al., "Weisfeiler-Lehman Graph Kernels" (JMLR 2011): a node's label of depth d + 1 is its label of
depth d with the sorted labels of its neighbours. Here data flows, so that what a layer reads and who reads it are
told apart: there are labels of what comes before, of what comes after, and of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.predictors.graph.flow import Flow

INPUT = "input"
"""Label of what the network is given."""

VIEWS: Mapping[str, tuple[str, bool, bool]] = {
    "before": ("layer", True, False),
    "after": ("layer", False, True),
    "around": ("layer", True, True),
    "before 2": ("before", True, False),
    "after 2": ("after", False, True),
}
"""Each kind of label besides the layer's own: the kind that it refines, by what it reads, by who reads it."""


def layer_label(layer: Layer) -> str:
    """What a layer does, without its sizes: operation, kernel, stride, groups, what is fused, data type."""
    words = [layer.op]
    if OPS[layer.op].geometry:
        words.append("k{}x{}s{}x{}".format(*layer.kernel, *layer.stride))
    if layer.groups > 1:
        words.append("depthwise" if layer.depthwise else "grouped")
    words += [word for word in (layer.activation, "+add" if layer.residual else "") if word]
    if layer.dtype != "float32":
        words.append(layer.dtype)
    if layer.op == "unsupported":
        words.append(layer.detail)
    return " ".join(words)


def count_labels(labels: Sequence[str], flow: Flow) -> dict[str, Counter[str]]:
    """How often each label occurs.

    Args:
        labels: of each layer of the flow, its own label.
        flow: the layers.

    Returns:
        The counts by kind of label (a key of `VIEWS`).
    """
    names, own = _numbered(labels)
    found = {"layer": (names, own)}
    for view, (refined, before, after) in VIEWS.items():
        found[view] = _refined(*found[refined], flow.inputs if before else None, flow.readers if after else None)
    return {
        view: Counter({names[number]: count for number, count in Counter(numbers).items()})
        for view, (names, numbers) in found.items()
    }


Neighbours = tuple[tuple[int, ...], ...]


def _refined(
    names: list[str], numbers: list[int], before: Neighbours | None, after: Neighbours | None
) -> tuple[list[str], list[int]]:
    """The labels that tell their neighbours too.

    A network repeats itself: labels are numbers in here, and a text is made once for each that is different.
    """
    numbers = [*numbers, len(names)]  # what index -1 finds: an input of the network
    names = [*names, INPUT]
    seen: dict[tuple[int, tuple[int, ...], tuple[int, ...]], int] = {}
    texts: list[str] = []
    refined = []
    for index in range(len(numbers) - 1):
        key = (numbers[index], _gathered(numbers, before, index), _gathered(numbers, after, index))
        number = seen.setdefault(key, len(seen))
        if number == len(texts):
            listed = [",".join(sorted(names[neighbour] for neighbour in side)) for side in key[1:]]
            texts.append(f"({listed[0]}){names[key[0]]}({listed[1]})")
        refined.append(number)
    return texts, refined


def _gathered(numbers: list[int], neighbours: Neighbours | None, index: int) -> tuple[int, ...]:
    if neighbours is None:
        return ()
    found = neighbours[index]
    if len(found) < 2:
        return (numbers[found[0]],) if found else ()
    return tuple(sorted([numbers[neighbour] for neighbour in found]))


def _numbered(labels: Sequence[str]) -> tuple[list[str], list[int]]:
    seen: dict[str, int] = {}
    numbers = [seen.setdefault(label, len(seen)) for label in labels]
    return list(seen), numbers
