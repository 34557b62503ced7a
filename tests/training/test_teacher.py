"""A teacher is listened to, at the right places, and stays as it is."""

import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageSet, load_images
from hwloop.errors import ConfigError, ModelError
from hwloop.models import build_model
from hwloop.pruning import plan_surgery, pruning_space
from hwloop.training import FitConfig, accuracy, attention_points, fit, predictions
from hwloop.training.losses import attention_map


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return load_images(DataConfig(limit=400)).train


def _network(seed: int, widths: tuple[int, int, int] = (8, 16, 32)) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("resnet8", num_classes=10, in_channels=1, arguments={"widths": list(widths)}).eval()


def _agreement(a: nn.Module, b: nn.Module, images: ImageSet) -> float:
    return float((predictions(a, images) == predictions(b, images)).mean())


def test_a_student_learns_its_teachers_answers_without_labels(train: ImageSet) -> None:
    """The labels are wrong on purpose: what the student gets right it has from the teacher."""
    teacher, student = _network(0), _network(1)
    fit(teacher, train, config=FitConfig(epochs=6, batch_size=32, device="cpu"))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    wrong = ImageSet(train.images, (train.labels + 1) % 10)
    recipe = FitConfig(epochs=6, batch_size=32, distillation=1.0, device="cpu")
    fit(student, wrong, config=recipe, teacher=teacher)
    assert _agreement(student, teacher, train) > 0.8
    assert accuracy(student, wrong) < 0.2
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in teacher.parameters())
    assert not any(module._forward_hooks for network in (teacher, student) for module in network.modules())


def test_attention_transfer_draws_the_students_maps_to_the_teachers(train: ImageSet) -> None:
    teacher, images = _network(0), torch.from_numpy(train.images[:64])

    def distance(student: nn.Module) -> float:
        maps = []
        for network in (student, teacher):
            layer = nn.Sequential(*[child for name, child in network.named_children() if name.startswith("layer")][:1])
            stem = nn.Sequential(network.get_submodule("conv1"), network.get_submodule("bn1"), nn.ReLU())
            with torch.no_grad():
                maps.append(attention_map(layer(stem.eval()(images))))
        return float((maps[0] - maps[1]).pow(2).mean())

    fitted = {}
    for weight in (0.0, 1000.0):
        student = _network(1)
        recipe = FitConfig(epochs=3, batch_size=32, attention=weight, fast=False, device="cpu")
        report = fit(student, train, config=recipe, teacher=teacher if weight else None)
        assert report.points == (("layer1", "layer2", "layer3") if weight else ())
        fitted[weight] = distance(student.eval())
    assert fitted[1000.0] < 0.5 * fitted[0.0]


def test_points_are_the_last_map_of_each_size_also_in_a_pruned_network() -> None:
    base, example = _network(0), torch.zeros(1, 1, 16, 16)
    space = pruning_space(base, (1, 16, 16), grain=4)
    pruned = plan_surgery(base, space).apply(
        space.candidate([space.levels(i)[0] for i in range(len(space.groups))], [False] * len(space.blocks))
    )
    assert attention_points(pruned, base, example) == ("layer1", "layer2", "layer3")
    with pytest.raises(ModelError, match=r"no maps under the same name in the student \(Sequential\)"):
        attention_points(nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), base, example)


@pytest.mark.parametrize(
    ("recipe", "taught", "message"),
    [
        ({"distillation": 0.5}, False, "need a teacher: give one"),
        ({"attention": 1.0}, False, "need a teacher: give one"),
        ({}, True, "distillation and attention are 0"),
    ],
)
def test_a_teacher_without_a_task_and_a_task_without_a_teacher_are_refused(
    train: ImageSet, recipe: dict[str, float], taught: bool, message: str
) -> None:
    config = FitConfig(epochs=1, device="cpu", **recipe)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        fit(_network(0), train, config=config, teacher=_network(1) if taught else None)


def test_a_teacher_of_other_classes_is_refused(train: ImageSet) -> None:
    teacher = build_model("resnet8", num_classes=7, in_channels=1)
    with pytest.raises(ModelError, match=r"distil between networks of the same classes"):
        fit(_network(0), train, config=FitConfig(epochs=1, distillation=0.5, device="cpu"), teacher=teacher)
