"""How much a pruned part harms, judged by what comes behind it and without what comes before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwloop.datasets import ImageSet
from hwloop.pruning import Candidate, SurgeryPlan, recalibrate
from hwloop.search.emo_dir.sections import Sections
from hwloop.search.emo_dir.space import PartSpace
from hwloop.training import evaluating, fast_dtype

BATCH_SIZE = 250  # images per forward pass


class PartJudge:
    """The error of the network with one part pruned, through the frozen rest as detector of its features.

    What the unpruned network gives into the part is computed once; each candidate costs the part and what is behind it.
    Batch normalisations of the part are measured anew, those behind it stay as they are: they are the detector.

    Args:
        plan: the surgery of the whole network.
        sections: where it is divided.
        number: of the part.
        space: its candidates.
        recalibration: training images for the batch normalisations.
        validation: held-out images that candidates are judged on.
    """

    def __init__(
        self,
        plan: SurgeryPlan,
        sections: Sections,
        number: int,
        space: PartSpace,
        recalibration: ImageSet,
        validation: ImageSet,
    ) -> None:
        self._plan = plan
        self._sections = sections
        self._number = number
        self._space = space
        self._dtype = fast_dtype()
        before = [sections.section(plan.module, index) for index in range(number)]
        behind = [sections.section(plan.module, index) for index in range(number + 1, len(sections))]
        with evaluating(plan.module):
            self._calibrating = [_through(before, batch) for batch in _batches(recalibration)]
            self._judging = [_through(before, batch).to(self._dtype) for batch in _batches(validation)]
        self._labels = torch.from_numpy(validation.labels)
        network = plan.apply(_base(plan)).eval().to(dtype=self._dtype)
        self._detector = [sections.section(network, number + 1 + index) for index in range(len(behind))]

    def error(self, candidate: Candidate) -> float:
        """The share of wrong answers with a candidate of the part in its place."""
        network = self._plan.apply(self._space.in_whole(candidate)).eval()
        section = self._sections.section(network, self._number)
        recalibrate(section, self._calibrating)
        section.to(dtype=self._dtype)
        with torch.inference_mode():
            found = torch.cat([_through([section, *self._detector], batch).argmax(1) for batch in self._judging])
        return int((found != self._labels).sum()) / len(self._labels)


def _base(plan: SurgeryPlan) -> Candidate:
    return Candidate(tuple(group.width for group in plan.groups))


def _batches(images: ImageSet) -> list[Tensor]:
    return [
        torch.from_numpy(images.images[start : start + BATCH_SIZE]).contiguous(memory_format=torch.channels_last)
        for start in range(0, len(images), BATCH_SIZE)
    ]


def _through(sections: Sequence[nn.Module], features: Tensor) -> Tensor:
    for section in sections:
        features = section(features)
    return features
