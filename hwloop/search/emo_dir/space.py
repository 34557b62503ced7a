"""The candidates of one part: what of a pruning space lies in it, the rest as it is in the unpruned network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import ModelError
from hwloop.predictors import Prediction
from hwloop.pruning import Candidate, PruningSpace, RemovableBlock
from hwloop.search.emo_dir.sections import Sections
from hwloop.search.objectives import BlockCostModel, CostModel, ScalableCosts

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class PartSpace:
    """A `SearchSpace` of some groups and blocks of another space.

    Attributes:
        whole: the space that it is part of.
        groups: positions of its groups there.
        kept_blocks: positions of its blocks there.
    """

    whole: PruningSpace
    groups: tuple[int, ...]
    kept_blocks: tuple[int, ...] = ()

    @property
    def base(self) -> Candidate:
        """The unpruned part."""
        return Candidate(tuple(self.whole.groups[group].width for group in self.groups))

    @property
    def blocks(self) -> Sequence[RemovableBlock]:
        """Its blocks."""
        return [self.whole.blocks[block] for block in self.kept_blocks]

    def levels(self, group: int) -> tuple[int, ...]:
        """The widths that its group number `group` may have."""
        return self.whole.levels(self.groups[group])

    def candidate(self, widths: Sequence[int], remains: Sequence[bool] | None = None) -> Candidate:
        """The candidate of these widths and flags, as the whole space would write it."""
        flags = [True] * len(self.kept_blocks) if remains is None else list(remains)
        whole = self._whole(list(widths), flags)
        return Candidate(tuple(whole.widths[group] for group in self.groups), whole.removed)

    def arrays(self, candidates: Sequence[Candidate]) -> tuple[IntArray, BoolArray]:
        """The (n, g) widths and (n, b) flags of candidates."""
        names = [block.name for block in self.blocks]
        widths = np.array([candidate.widths for candidate in candidates], np.int64)
        flags = np.array([[name not in c.removed for name in names] for c in candidates], np.bool_)
        return widths.reshape(len(candidates), len(self.groups)), flags.reshape(len(candidates), len(names))

    def in_whole(self, candidate: Candidate) -> Candidate:
        """The whole network with this part alone pruned."""
        names = [block.name for block in self.blocks]
        return self._whole(list(candidate.widths), [name not in candidate.removed for name in names])

    def text(self, candidate: Candidate) -> str:
        """A candidate for people: the whole network with this part alone pruned."""
        return self.whole.text(self.in_whole(candidate))

    def _whole(self, widths: list[int], remains: list[bool]) -> Candidate:
        all_widths = list(self.whole.base.widths)
        for group, width in zip(self.groups, widths, strict=True):
            all_widths[group] = width
        flags = [True] * len(self.whole.blocks)
        for block, flag in zip(self.kept_blocks, remains, strict=True):
            flags[block] = flag
        return self.whole.candidate(all_widths, flags)


def divide(space: PruningSpace, sections: Sections) -> list[PartSpace]:
    """The part of a space in each section.

    A group or block belongs to a section when all that it changes lies there; channels that pass from one section to
    the next stay (the streams of a residual network).

    Raises:
        ModelError: nothing lies in any section.
    """

    def owner(paths: Sequence[str]) -> int | None:
        found = {sections.owner(path) for path in paths}
        return found.pop() if len(found) == 1 else None

    groups = [owner([coupling.target for coupling in group.couplings]) for group in space.groups]
    blocks = [owner([block.owner, *block.branch]) for block in space.blocks]
    parts = [
        PartSpace(
            space,
            tuple(place for place, found in enumerate(groups) if found == number),
            tuple(place for place, found in enumerate(blocks) if found == number),
        )
        for number in range(len(sections))
    ]
    if not any(part.groups or part.kept_blocks for part in parts):
        raise ModelError(
            f"emo-dir: nothing that can be pruned lies between the cuts {', '.join(sections.cuts)}; choose other parts"
        )
    return parts


@dataclass(frozen=True)
class PartCosts:
    """A `BlockCostModel` of one part: the whole network's costs with this part alone pruned.

    Attributes:
        whole: the whole network's.
        part: the part.
    """

    whole: CostModel | BlockCostModel
    part: PartSpace

    @property
    def scalable(self) -> ScalableCosts:
        """The sizes."""
        return _PartSizes(self)

    def predict(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> Prediction:
        """What (n, g) widths and (n, b) flags of the part cost."""
        all_widths, flags = self.expanded(widths, blocks)
        if flags is None:
            return self.whole.predict(all_widths)
        return self.whole.predict(all_widths, flags)  # type: ignore[call-arg]  # a space with blocks has such a model

    def expanded(self, widths: ArrayLike, blocks: ArrayLike | None) -> tuple[IntArray, BoolArray | None]:
        """The widths and flags of the whole network; no flags where it has no blocks."""
        rows = np.asarray(widths, dtype=np.int64)
        space = self.part.whole
        all_widths = np.tile(np.array(space.base.widths, dtype=np.int64), (len(rows), 1))
        all_widths[:, list(self.part.groups)] = rows
        if not space.blocks:
            return all_widths, None
        flags = np.ones((len(rows), len(space.blocks)), dtype=np.bool_)
        if blocks is not None and self.part.kept_blocks:
            flags[:, list(self.part.kept_blocks)] = np.asarray(blocks)
        return all_widths, flags


@dataclass(frozen=True)
class _PartSizes:
    costs: PartCosts

    def parameters(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        return self.costs.whole.scalable.parameters(*self.costs.expanded(widths, blocks))

    def macs(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> IntArray:
        return self.costs.whole.scalable.macs(*self.costs.expanded(widths, blocks))
