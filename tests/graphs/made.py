"""Small graphs that are made up, and what no file may hold."""

from __future__ import annotations

from typing import Any

import torch

from hwloop.graphs import Graph, NetworkConfig, make_graph


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run by a pickle",))


def random_graph(nodes: int, edges: int, seed: int, labels: torch.Tensor | None = None, features: int = 5) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(nodes, (2, edges), generator=generator)
    own = torch.randint(3, (nodes,), generator=generator) if labels is None else labels
    return make_graph(torch.randn(nodes, features, generator=generator), index, own, "a graph")


def config(kind: str, level: str, features: int = 6, classes: int = 2) -> NetworkConfig:
    return NetworkConfig(kind, level, features, classes, hidden=16, layers=2, heads=4, dropout=0.3)  # type: ignore[arg-type]
