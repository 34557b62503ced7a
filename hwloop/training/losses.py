"""What a network is trained to lower: pure functions of logits, labels and feature maps.

Sources: label smoothing is Szegedy et al. 2016 (section 7), mixup Zhang et al. 2018 (section 2), knowledge distillation
Hinton, Vinyals and Dean 2015 (section 2), attention transfer Zagoruyko and Komodakis 2017 (section 3.1) in the form of
their published code: the *mean* of squares of channels and the *mean* of squared differences, where the paper sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hwloop.errors import ModelError


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy, a scalar.

    Args:
        logits: (n, k).
        labels: class of each image, (n,) int64; or its share of each class, (n, k), as `mixed_labels` gives.
        smoothing: share of the target that is spread evenly over all classes, 0 to below 1.
    """
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    weight: float,
    *,
    smoothing: float = 0.0,
) -> Tensor:
    """Return Hinton's loss: `weight` of following the teacher and the rest of following the labels, a scalar.

    The teacher's part is the divergence KL(teacher || student) of the distributions softened by the temperature, times
    the temperature squared, so that its gradients keep their size as the temperature changes. Gradients reach the
    student alone.

    Args:
        student_logits: (n, k).
        teacher_logits: (n, k); taken as constants.
        labels: (n,) int64 classes, or (n, k) shares.
        temperature: above 0; 1 leaves the distributions as they are.
        weight: of the teacher, 0 to 1.
        smoothing: of the labels.

    Raises:
        ModelError: The two networks do not answer with equally many classes.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ModelError(
            f"the student answers with logits of shape {tuple(student_logits.shape)} and the teacher with "
            f"{tuple(teacher_logits.shape)}: distil between networks of the same classes"
        )
    student = functional.log_softmax(student_logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits.detach() / temperature, dim=1)
    divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    labelled = cross_entropy(student_logits, labels, smoothing=smoothing)
    return weight * temperature**2 * divergence + (1 - weight) * labelled


def attention_map(features: Tensor) -> Tensor:
    """Return where a layer looks: the mean of squares over channels, flattened, of Euclidean length 1.

    Args:
        features: (n, c, h, w); any number of channels.

    Returns:
        (n, h·w).
    """
    return functional.normalize(features.pow(2).mean(dim=1).flatten(1), dim=1)


def attention_transfer(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Return how far the student looks elsewhere than the teacher: summed over points, mean of squares in each.

    The published code weighs this sum by 1000 on CIFAR-10 beside the cross-entropy. Gradients reach the student alone.

    Args:
        student_maps: the features of each point, (n, c, h, w); channels may differ from the teacher's.
        teacher_maps: the features of the same points, in the same order; taken as constants.

    Returns:
        A scalar; zero for no points.

    Raises:
        ModelError: The numbers of points differ, or the images or the map sizes of a point.
    """
    if len(student_maps) != len(teacher_maps):
        raise ModelError(
            f"attention transfer compares point by point, but the student has {len(student_maps)} points and the "
            f"teacher {len(teacher_maps)}"
        )
    losses: list[Tensor] = []
    for index, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        if student.shape[:1] + student.shape[2:] != teacher.shape[:1] + teacher.shape[2:]:
            raise ModelError(
                f"attention transfer needs maps of equal size, but at point {index} the student has "
                f"{tuple(student.shape)} and the teacher {tuple(teacher.shape)} (channels may differ)"
            )
        losses.append((attention_map(student) - attention_map(teacher.detach())).pow(2).mean())
    return torch.stack(losses).sum() if losses else torch.zeros(())


def mixed_labels(labels: Tensor, order: Tensor, share: float, classes: int) -> Tensor:
    """Return the labels of a mixed batch: `share` of each image's own class, the rest of its partner's.

    Args:
        labels: (n,) int64.
        order: each image's partner in the batch, (n,) int64, as `mixed_images` used it.
        share: of the image itself, 0 to 1.
        classes: k, how many classes there are.

    Returns:
        (n, k) float32; rows sum to 1.
    """
    own = functional.one_hot(labels, classes).float()
    return share * own + (1 - share) * own[order]
