"""The losses are those of the papers: checked against their written-out sums, and where they must be zero."""

import math

import pytest
import torch
from torch import Tensor

from hwloop.errors import ModelError
from hwloop.training.losses import attention_map, attention_transfer, cross_entropy, distillation, mixed_labels

LABELS = torch.tensor([0, 2, 1, 2])


def _logits(seed: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def test_distillation_is_the_written_out_sum() -> None:
    student, teacher, temperature, weight = _logits(0), _logits(1), 4.0, 0.7
    expected = 0.0
    for row, (s, t) in enumerate(zip(student.tolist(), teacher.tolist(), strict=True)):
        soft = zip(_softmax(t, temperature), _softmax(s, temperature), strict=True)
        divergence = sum(q * math.log(q / p) for q, p in soft)
        labelled = -math.log(_softmax(s, 1.0)[int(LABELS[row])])
        expected += (weight * temperature**2 * divergence + (1 - weight) * labelled) / 4
    assert float(distillation(student, teacher, LABELS, temperature, weight)) == pytest.approx(expected, rel=1e-12)


def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn_and_teachers_get_no_gradient() -> None:
    student, teacher = _logits(0).requires_grad_(), _logits(0).requires_grad_()
    loss = distillation(student, teacher, LABELS, 2.0, 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-12
    assert teacher.grad is None


def test_without_weight_only_the_labels_count() -> None:
    assert torch.equal(
        distillation(_logits(0), _logits(1), LABELS, 3.0, 0.0, smoothing=0.1),
        cross_entropy(_logits(0), LABELS, smoothing=0.1),
    )


def test_distillation_between_other_classes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"logits of shape \(4, 3\) and the teacher with \(4, 2\)"):
        distillation(_logits(0), _logits(1)[:, :2], LABELS, 1.0, 0.5)


def test_smoothed_labels_and_mixed_labels_are_shares_of_classes() -> None:
    logits, smoothing = _logits(3), 0.3
    shares = (1 - smoothing) * torch.nn.functional.one_hot(LABELS, 3).double() + smoothing / 3
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    assert float(cross_entropy(logits, LABELS, smoothing=smoothing)) == pytest.approx(float(expected), rel=1e-12)
    mixed = mixed_labels(LABELS, torch.tensor([1, 0, 3, 2]), 0.75, 3)
    assert mixed.tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75], [0, 0.75, 0.25], [0, 0.25, 0.75]]


def test_an_attention_map_has_length_one_and_forgets_channels_and_scale() -> None:
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attention_map(features)
    assert found.shape == (2, 12)
    assert torch.allclose(found.norm(dim=1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(attention_map(-3 * features.flip(1)), found)


def test_attention_transfer_is_the_written_out_mean_and_needs_no_equal_channels() -> None:
    student = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)  # squares 1, 4: map (1, 4)/√17
    teacher = torch.tensor([[[[1.0, 1.0]], [[1.0, -1.0]]]], requires_grad=True)  # means of squares 1, 1: (1, 1)/√2
    expected = ((1 / 17**0.5 - 0.5**0.5) ** 2 + (4 / 17**0.5 - 0.5**0.5) ** 2) / 2
    loss = attention_transfer([student, student], [teacher, teacher])
    assert float(loss.detach()) == pytest.approx(2 * expected, rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert teacher.grad is None
    assert float(attention_transfer([teacher], [teacher]).detach()) == 0.0
    assert float(attention_transfer([], [])) == 0.0


def test_points_that_do_not_correspond_are_named() -> None:
    maps = torch.ones(2, 3, 4, 4)
    with pytest.raises(ModelError, match="student has 1 points and the teacher 2"):
        attention_transfer([maps], [maps, maps])
    with pytest.raises(ModelError, match=r"at point 1 the student has \(2, 3, 4, 4\) and the teacher \(2, 3, 2, 2\)"):
        attention_transfer([maps, maps], [maps, maps[:, :, :2, :2]])
