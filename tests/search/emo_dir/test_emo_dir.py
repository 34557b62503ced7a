"""EMO-DIR: networks are cut where one tensor passes, parts are judged behind clean features, fronts are joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.errors import ModelError, UserError
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import (
    RECALIBRATED,
    Candidate,
    ErrorEstimator,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
    plan_surgery,
    pruning_space,
)
from hwloop.search.emo_dir import (
    Option,
    PartCosts,
    PartJudge,
    PartSpace,
    PartTraining,
    Sections,
    divide,
    recipe,
    schemes,
    train_parts,
)
from hwloop.training import FitConfig, evaluating, fit

SHAPE = (3, 16, 16)


class Made:
    """A trained ResNet-8 with everything that is made of it; nobody changes it."""

    def __init__(self) -> None:
        data = load_images(DataConfig(source="digits", image_size=16, seed=0))
        torch.manual_seed(0)
        self.data: ImageData = data
        self.module: nn.Module = build_model("resnet8", num_classes=10, in_channels=1)
        fit(self.module, data.train, config=FitConfig(epochs=3, learning_rate=0.1, batch_size=64))
        self.module.eval()
        self.space: PruningSpace = pruning_space(self.module, (1, 16, 16), grain=4)
        self.plan: SurgeryPlan = plan_surgery(self.module, self.space)
        self.sections = Sections(self.module)
        self.parts: list[PartSpace] = divide(self.space, self.sections)


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def through(sections: Sections, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    features = images
    with evaluating(network):
        for number in range(len(sections)):
            features = sections.section(network, number)(features)
    return features


def test_sections_run_one_after_the_other_are_the_network_also_of_one_that_was_pruned(made: Made) -> None:
    images = torch.randn(3, 1, 16, 16)
    assert made.sections.cuts == ("layer1", "layer2")
    with evaluating(made.module):
        assert torch.equal(through(made.sections, made.module, images), made.module(images))
    rng = np.random.default_rng(0)
    for _ in range(5):  # also with blocks that are gone
        network = made.plan.apply(made.space.random(rng)).eval()
        with evaluating(network):
            assert torch.equal(through(made.sections, network, images), network(images))


def test_blocks_and_layers_can_be_parts_too() -> None:
    deep = build_model("resnet20", num_classes=10, in_channels=3).eval()
    sections = Sections(deep, ["layer1.0", "layer1.2", "layer3.1"])
    images = torch.randn(2, 3, 32, 32)
    with evaluating(deep):
        assert torch.equal(through(sections, deep, images), deep(images))
    assert sections.owner("layer1.1.conv1") == 1
    assert sections.owner("layer3.2.conv1") == 3
    assert sections.owner("layer3") is None
    lenet = build_model("lenet5", num_classes=10, in_channels=1, image_size=28).eval()
    parts = divide(pruning_space(lenet, (1, 28, 28)), Sections(lenet, ["pool2"]))
    assert [len(part.groups) for part in parts] == [1, 2]  # conv2's channels pass on: they stay


class Crossing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        early = self.first(images)
        late: torch.Tensor = self.last(self.second(early) + early)
        return late.mean((2, 3))


def test_places_where_no_network_can_be_cut_are_refused() -> None:
    with pytest.raises(ModelError, match="behind 'second': add also needs first, which is computed before it"):
        Sections(Crossing(), ["second"])
    with pytest.raises(ModelError, match="behind 'third'; it can be cut behind first, second, last"):
        Sections(Crossing(), ["third"])
    with pytest.raises(ModelError, match="not in the order of the network"):
        Sections(build_model("resnet8", num_classes=10, in_channels=3), ["layer2", "layer1"])
    with pytest.raises(ModelError, match="needs at least one place to cut"):
        Sections(Crossing())


def test_the_parts_hold_every_inner_width_and_block_once(made: Made) -> None:
    groups = [group for part in made.parts for group in part.groups]
    blocks = [block for part in made.parts for block in part.kept_blocks]
    assert sorted(groups) == list(range(len(made.space.groups)))
    assert sorted(blocks) == list(range(len(made.space.blocks)))
    part = made.parts[1]
    thin = part.candidate([part.levels(0)[0]] * len(part.groups))
    whole = part.in_whole(thin)
    assert made.space.contains(whole)
    assert part.text(thin) == made.space.text(whole)
    widths, flags = part.arrays([thin, part.base])
    assert part.candidate(widths[0].tolist(), flags[0].tolist()) == thin


def test_the_costs_of_a_part_are_those_of_the_network_around_it(made: Made, toy: Any) -> None:
    space = toy.Space()

    part = PartSpace(space, (1, 3))
    model = toy.Model()
    found = PartCosts(model, part).predict([[8, 16], [32, 64]])
    expected = model.predict([[16, 8, 32, 16, 64, 64], [16, 32, 32, 64, 64, 64]])
    assert np.array_equal(found.latency_ms, expected.latency_ms)
    assert PartCosts(model, part).scalable.macs([[32, 64]]) == model.scalable.macs([space.base.widths])


def judge_of(made: Made, plan: SurgeryPlan) -> ErrorEstimator:
    preparation = Recalibration(made.data.train, images=250, fast=False)
    return ErrorEstimator(RECALIBRATED, plan, preparation, HeldOut(made.data.validation, fast=False))


def test_a_part_is_judged_as_in_the_network_whose_other_parts_are_whole(made: Made) -> None:
    images = made.data.validation
    whole = judge_of(made, made.plan)
    for number, part in enumerate(made.parts):
        judge = PartJudge(made.plan, made.sections, number, part, made.data.train.take(np.arange(250)), images)
        assert judge.error(part.base) == pytest.approx(whole.estimate(made.space.base).error, abs=0.03)
        thinnest = part.candidate([part.levels(group)[0] for group in range(len(part.groups))])
        assert judge.error(thinnest) >= judge.error(part.base) - 0.03
        assert judge.error(thinnest) == judge.error(thinnest)


def test_the_sub_networks_learn_to_be_pruned_and_the_base_is_left_alone(made: Made) -> None:
    before = {name: tensor.clone() for name, tensor in made.module.state_dict().items()}
    settings = PartTraining(steps=25, learning_rate=0.03, batch_size=64)
    given = (made.plan, made.sections, made.parts, made.data.train, settings)
    trained = train_parts(*given, seed=0, progress=Silent())
    again = train_parts(*given, seed=0, progress=Silent())
    assert all(
        torch.equal(a, b) for a, b in zip(trained.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in trained.parameters())
    half = made.space.candidate([max(4, width // 2) for width in made.space.base.widths])
    errors = [judge_of(made, plan).estimate(half).error for plan in (made.plan, plan_surgery(trained, made.space))]
    assert errors[1] < errors[0]


def option(part: int, name: int, impairment: float, cost: float) -> Option:
    return Option(part, Candidate((name,)), impairment, cost)


def test_schemes_walk_up_the_ranking_and_save_more_with_each_step() -> None:
    a, b, c = option(0, 1, 0.01, 90.0), option(0, 2, 0.05, 70.0), option(0, 3, 0.02, 95.0)
    d, e = option(1, 4, 0.00, 80.0), option(1, 5, 0.04, 60.0)
    found = schemes([a, b, c, d, e])
    assert found == [{1: d}, {1: d, 0: a}, {1: e, 0: a}, {1: e, 0: b}]  # c harms more than a and saves less
    assert schemes([]) == []


def test_joint_pruning_judges_the_fronts_alone_and_then_together(toy: Any) -> None:
    space = toy.Space()

    def cut(**widths: int) -> Candidate:
        given = list(space.widths)
        for name, width in widths.items():
            given[int(name[1:])] = width
        return Candidate(tuple(given))

    fronts = [[space.base, cut(g0=8), cut(g0=8, g1=8)], [cut(g5=32), cut(g5=8, g4=8)]]
    options = {"objectives": ("error", "macs"), "algorithm": recipe(fronts, "macs"), "generations": 3}
    journal = toy.MemoryJournal()
    result = toy.search(journal, **options)
    singles = [e.candidate for e in result.evaluated if e.generation == 0]
    joint = [e for e in result.evaluated if e.generation == 1]
    assert singles == [space.base, *fronts[0][1:], *fronts[1]]
    assert not result.exhausted
    assert joint
    for each in joint:
        assert sum(a != b for a, b in zip(each.candidate.widths, space.widths, strict=True)) >= 2
        assert each.values[0] == toy.error_of(each.candidate)
    saved = [each.values[1] for each in joint]
    assert saved == sorted(saved, reverse=True)
    assert toy.search(journal, toy.Judge(fail_after=0), **options).evaluated == result.evaluated
    with pytest.raises(UserError, match="emo_dir_fronts"):
        toy.search(journal, **(options | {"algorithm": recipe(fronts[:1], "macs")}))
    with pytest.raises(UserError, match="needs 'error' among the objectives"):
        toy.search(toy.MemoryJournal(), **(options | {"objectives": ("macs",)}))
