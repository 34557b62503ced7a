"""Where the attention of two copies of one network is compared: at the end of each resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Point = tuple[str, int]
"""Path of a module, and which of its calls."""


def find_points(module: nn.Module, images: Tensor) -> tuple[Point, ...]:
    """Return the last module that finishes at each size of maps, in the order of the calls.

    Zagoruyko and Komodakis compare the ends of a ResNet's stages; this is the same for any network. Maps of one
    position have no attention, and are no points.

    Args:
        module: the network, run once.
        images: (n, c, h, w).
    """
    last: dict[tuple[int, ...], Point] = {}

    def note(point: Point, maps: Tensor) -> None:
        size = tuple(maps.shape[2:])
        if maps.dim() == 4 and size[0] * size[1] > 1:
            last.pop(size, None)  # so that the order is that of the last calls
            last[size] = point

    with _listening(module, note), torch.no_grad():
        module(images)
    return tuple(last.values())


@contextmanager
def recorded(module: nn.Module, points: tuple[Point, ...]) -> Iterator[Callable[[], list[Tensor]]]:
    """Keep the maps at points while the network runs inside the block.

    Yields:
        A function that gives the maps of the last pass in the order of the points, once, and forgets them.
    """
    kept: dict[Point, Tensor] = {}

    def note(point: Point, maps: Tensor) -> None:
        if point in points:
            kept[point] = maps

    with _listening(module, note) as restart:

        def taken() -> list[Tensor]:
            maps = [kept[point] for point in points]
            kept.clear()
            restart()
            return maps

        yield taken


@contextmanager
def _listening(module: nn.Module, note: Callable[[Point, Tensor], None]) -> Iterator[Callable[[], None]]:
    """Tell `note` of every tensor that a module inside the network returns; yields what starts counting calls anew."""
    calls: dict[str, int] = {}

    def listener(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def listen(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            calls[path] = calls.get(path, -1) + 1
            if isinstance(output, Tensor):
                note((path, calls[path]), output)

        return listen

    hooks = [child.register_forward_hook(listener(path)) for path, child in module.named_modules() if path]
    try:
        yield calls.clear
    finally:
        for hook in hooks:
            hook.remove()
