"""One point of a pruning space."""

from __future__ import annotations

from dataclasses import dataclass

Widths = tuple[int, ...]


@dataclass(frozen=True, order=True)
class Candidate:
    """A pruned network: the width of every channel group, and the blocks that are left out.

    Two candidates that are the same network are equal only as `PruningSpace.canonical` writes them.

    Attributes:
        widths: channels that each group keeps, in the order of the space's groups.
        removed: names of the removed blocks, in the order of the space's blocks.
    """

    widths: Widths
    removed: tuple[str, ...] = ()
