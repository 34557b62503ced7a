"""The sub-networks are trained one after the other, each to work behind the pruned one before it.

The cross-network constraint, as we understand it: whatever candidate of the part before feeds it, and whatever
candidate of its own is drawn, a part must give the features that the unpruned network gives there, and what is behind
it must be able to use them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.datasets import ImageSet
from hwloop.errors import ConfigError, ModelError
from hwloop.progress import Progress
from hwloop.pruning import Candidate, SurgeryPlan, masked, recalibrate
from hwloop.search.emo_dir.sections import Sections
from hwloop.search.emo_dir.space import PartSpace
from hwloop.training import fast_dtype

_RECALIBRATION_BATCHES = 4


@dataclass(frozen=True)
class PartTraining:
    """How the sub-networks are trained.

    Attributes:
        steps: mini-batches per part; 0 leaves the network as it is.
        learning_rate: the peak of a one-cycle schedule.
        batch_size: images per step.
        weight_decay: L2 penalty.
        labels: weight of the cross-entropy behind the detector; the distance of the features has weight 1.
    """

    steps: int = 60
    learning_rate: float = 0.02
    batch_size: int = 128
    weight_decay: float = 1e-4
    labels: float = 0.3

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 2 or self.learning_rate <= 0 or self.labels < 0:
            raise ConfigError(
                f"emo-dir: a part cannot be trained for {self.steps} steps of {self.batch_size} images at a rate of"
                f" {self.learning_rate} with {self.labels} of the labels"
            )

    def to_record(self) -> dict[str, str]:
        """The settings as a search's fingerprint holds them."""
        return {f"emo_dir_{name}": str(value) for name, value in asdict(self).items()}


def train_parts(
    plan: SurgeryPlan,
    sections: Sections,
    parts: Sequence[PartSpace],
    train: ImageSet,
    settings: PartTraining,
    *,
    seed: int,
    progress: Progress,
) -> nn.Module:
    """A copy of the network whose parts have been trained to be pruned.

    In each step a part sees the same images twice: unpruned behind the unpruned network, and as a random candidate of
    its own behind a random candidate of the (trained) part before. Both must give the unpruned network's features.

    Args:
        plan: surgery of the network; the network is never changed.
        sections: where it is divided.
        parts: the candidates of each section.
        train: images.
        settings: of the training.
        seed: of images and candidates.
        progress: is told of every step.

    Raises:
        ModelError: the training diverged.
    """
    trained = copy.deepcopy(plan.module).eval()
    if not settings.steps:
        return trained
    teacher = copy.deepcopy(plan.module).eval().requires_grad_(False)
    clean = [sections.section(teacher, number) for number in range(len(sections))]
    student = [sections.section(trained, number) for number in range(len(sections))]
    rng = np.random.default_rng(seed)
    active = [number for number, part in enumerate(parts) if part.groups or part.kept_blocks]
    with progress.step("training of the sub-networks", total=settings.steps * len(active)) as step:
        for number in active:
            for parameter in trained.parameters():
                parameter.requires_grad_(False)
            for parameter in student[number].parameters():
                parameter.requires_grad_(True)
            weights = list(student[number].parameters())
            optimizer = torch.optim.SGD(
                weights, settings.learning_rate, 0.9, weight_decay=settings.weight_decay, nesterov=True
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, settings.learning_rate, total_steps=settings.steps + 1, cycle_momentum=False
            )
            for _ in range(settings.steps):
                rows = rng.integers(len(train), size=min(settings.batch_size, len(train)))
                images = torch.from_numpy(train.images[rows]).contiguous(memory_format=torch.channels_last)
                labels = torch.from_numpy(train.labels[rows])
                with torch.no_grad(), _fast():
                    given, *targets = _features(clean, images, number)
                    fed = _fed(trained, student, plan, parts, number, images, rng)
                loss = torch.zeros(())
                for source, candidate in ((given, None), (fed, _drawn(parts[number], rng))):
                    loss = loss + _loss(
                        trained, student[number], clean[number + 1 :], plan, parts[number], candidate, source,
                        targets[0], labels, settings.labels,
                    )  # fmt: skip
                if not math.isfinite(float(loss.detach())):
                    raise ModelError(f"emo-dir: the training of part {number + 1} diverged: lower learning_rate")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
                optimizer.step()
                schedule.step()
                step.advance(1, f"part {number + 1}, loss {float(loss.detach()):.3f}")
            trained.eval()
            _settle(student, number, train, rng)
    for parameter in trained.parameters():
        parameter.requires_grad_(True)
    return trained


def _loss(
    trained: nn.Module,
    section: nn.Module,
    detector: Sequence[nn.Module],
    plan: SurgeryPlan,
    part: PartSpace,
    candidate: Candidate | None,
    source: Tensor,
    target: Tensor,
    labels: Tensor,
    weight: float,
) -> Tensor:
    """Distance of the features, in units of the target's own size, and what the detector makes of them."""
    section.train()
    chosen = part.in_whole(part.base if candidate is None else candidate)
    blocks = [block for block in plan.blocks if block.name in chosen.removed]
    with masked(trained, plan.groups, plan.kept(chosen), blocks), _fast():
        features = section(source)
        logits = features
        for behind in detector:
            logits = behind(logits)
    distance = (features.float() - target.float()).square().mean() / target.float().square().mean().clamp(min=1e-12)
    loss: Tensor = distance + weight * functional.cross_entropy(logits.float(), labels)
    return loss


def _features(sections: Sequence[nn.Module], images: Tensor, number: int) -> list[Tensor]:
    """What the unpruned network gives into a section and out of it."""
    features = images
    for section in sections[:number]:
        features = section(features)
    return [features, sections[number](features)]


def _fed(
    trained: nn.Module,
    student: Sequence[nn.Module],
    plan: SurgeryPlan,
    parts: Sequence[PartSpace],
    number: int,
    images: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """What the trained parts before a section give into it, the last of them as a random candidate."""
    if number == 0:
        return images
    before = parts[number - 1]
    chosen = before.in_whole(_drawn(before, rng))
    blocks = [block for block in plan.blocks if block.name in chosen.removed]
    features = images
    with masked(trained, plan.groups, plan.kept(chosen), blocks):
        for section in student[:number]:
            features = section(features)
    return features


def _drawn(part: PartSpace, rng: np.random.Generator) -> Candidate:
    """A random candidate: one overall size, scattered from group to group."""
    size = rng.random()
    widths = []
    for group in range(len(part.groups)):
        levels = part.levels(group)
        place = round((len(levels) - 1) * min(max(size + 0.25 * rng.standard_normal(), 0.0), 1.0))
        widths.append(levels[place])
    return part.candidate(widths, [bool(rng.random() < max(size, 0.5)) for _ in part.kept_blocks])


def _settle(student: Sequence[nn.Module], number: int, train: ImageSet, rng: np.random.Generator) -> None:
    """Measure the part's batch normalisations on its unpruned self: in training it was many networks at once."""
    batches = []
    with torch.no_grad():
        for _ in range(_RECALIBRATION_BATCHES):
            rows = rng.integers(len(train), size=min(128, len(train)))
            features = torch.from_numpy(train.images[rows])
            for section in student[:number]:
                features = section(features)
            batches.append(features)
    recalibrate(student[number], batches)


def _fast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast_dtype() == torch.bfloat16)
