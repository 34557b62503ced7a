"""A layer between ONNX graph and network: its tensors still have names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hwloop.layers import Layer


@dataclass(frozen=True)
class Unit:
    """One layer of the graph while it is being fused.

    Attributes:
        name: torch module path or ONNX node name; not yet unique.
        layer: the work.
        inputs: names of the data tensors; the fused residual, if any, is last.
        output: name of the result.
        sources: ONNX nodes that are part of it.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    output: str
    sources: tuple[str, ...] = field(default=())

    def absorb(self, consumer: Unit, **changes: Any) -> Unit:
        """This unit with its only consumer fused behind it; `changes` are those of the layer."""
        return replace(
            self,
            layer=replace(self.layer, **changes),
            output=consumer.output,
            sources=self.sources + consumer.sources,
        )


def count_uses(units: Iterable[Unit], outputs: Sequence[str]) -> Counter[str]:
    """How often each tensor is read; being an output of the network counts as a use."""
    uses = Counter(name for unit in units for name in unit.inputs)
    uses.update(outputs)
    return uses
