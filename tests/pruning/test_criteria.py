"""What every registered criterion keeps to, on every kind of network; a new criterion is tested without a new test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageSet, load_images
from hwloop.errors import ModelError, UserError
from hwloop.models import build_model, load_weights, settle
from hwloop.pruning import (
    RECALIBRATED,
    Criterion,
    ErrorEstimator,
    Evidence,
    HeldOut,
    PruningSpace,
    Recalibration,
    channel_order,
    gated,
    get_criterion,
    list_criteria,
    masked,
    plan_surgery,
    pruning_space,
    register_criterion,
)
from hwloop.pruning.criteria import CLAD, LFPC, Activation, Taylor
from hwloop.pruning.criteria.attention_points import find_points
from hwloop.pruning.criteria.clad import polarisation
from hwloop.pruning.criteria.soft_work import SoftWork
from hwloop.pruning.tracing import trace_groups
from tests.pruning.permuting import permutations, permuted

NETWORKS = (
    "depthwise-concat",
    "grouped",
    "squeeze-excite",
    "concat-shortcut",
    "fixed-view",
    "mixed",
    "lenet5",
    "resnet8-pad",
    "resnet8-projection",
    "mobilenet_v2",
)
QUICK = {"clad": {"epochs": 1}, "lfpc": {"epochs": 1}}


def quick(name: str) -> Criterion:
    return get_criterion(name, QUICK.get(name))


def images_of(shape: tuple[int, int, int], count: int = 10, seed: int = 3) -> ImageSet:
    rng = np.random.default_rng(seed)
    return ImageSet(rng.standard_normal((count, *shape)).astype(np.float32), rng.integers(0, 5, count))


def evidence_for(shape: tuple[int, int, int], seed: int = 0) -> Evidence:
    return Evidence(images_of(shape), seed, batch_size=4)


def everything(module: nn.Module) -> dict[str, object]:
    """All that a criterion must not change, hooks included."""
    return {
        "state": {name: value.clone() for name, value in module.state_dict().items()},
        "gradients": {name: parameter.grad for name, parameter in module.named_parameters()},
        "flags": {name: parameter.requires_grad for name, parameter in module.named_parameters()},
        "modes": {name: child.training for name, child in module.named_modules()},
        "momenta": {name: getattr(child, "momentum", None) for name, child in module.named_modules()},
        "hooks": {
            name: (len(child._forward_hooks), len(child._forward_pre_hooks)) for name, child in module.named_modules()
        },
    }


def test_the_registry_holds_the_criteria() -> None:
    assert list_criteria() == ("activation", "bn-scale", "clad", "fpgm", "l1", "l2", "lfpc", "random", "taylor")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", list_criteria())
def test_scores_are_finite_repeatable_and_leave_the_network_alone(
    name: str, network: str, make: Callable, space_of: Callable
) -> None:
    module, shape = make(network)
    space = space_of(network)
    first = next(module.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    next(module.children()).train()  # a network may keep parts of it in another mode on purpose
    before = everything(module)
    randomness = torch.get_rng_state()
    criterion, evidence = quick(name), evidence_for(shape)
    scores = criterion.scores(module, space.groups, evidence)
    assert list(scores) == [group.name for group in space.groups]
    for group in space.groups:
        assert scores[group.name].shape == (group.width,)
        assert scores[group.name].dtype == np.float64
        assert np.isfinite(scores[group.name]).all()
        assert np.ptp(scores[group.name]) > 0, group.name
    after = everything(module)
    for value, other in zip(before.pop("state").values(), after.pop("state").values(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(value, other)
    assert after == before
    assert torch.equal(torch.get_rng_state(), randomness)
    again = criterion.scores(copy.deepcopy(module), space.groups, evidence_for(shape))
    assert all(np.array_equal(again[name], scores[name]) for name in scores)
    plan_surgery(module, space, criterion, evidence)  # orders keep grouped convolutions aligned, or are refused


@pytest.mark.slow
@pytest.mark.parametrize("network", ["vgg16_bn", "resnet50", "mobilenet_v1", "efficientnet_b0", "googlenet"])
def test_every_criterion_scores_the_large_networks_of_the_zoo(network: str) -> None:
    torch.manual_seed(0)
    module = build_model(network, num_classes=10, in_channels=3, image_size=32)
    settle(module, (3, 32, 32))
    groups, _fixed = trace_groups(module.eval(), (3, 32, 32))
    for name in list_criteria():
        scores = quick(name).scores(module, groups, Evidence(images_of((3, 32, 32), 4)))
        assert set(scores) == {group.name for group in groups}
        for group in groups:
            assert scores[group.name].shape == (group.width,)
            assert np.isfinite(scores[group.name]).all(), (name, group.name)


@pytest.mark.parametrize("network", ["depthwise-concat", "grouped", "mixed", "lenet5", "resnet8-projection"])
@pytest.mark.parametrize("name", [name for name in list_criteria() if get_criterion(name).equivariant])
def test_scores_follow_the_channels(name: str, network: str, make: Callable, space_of: Callable) -> None:
    module, shape = make(network)
    space: PruningSpace = space_of(network)
    chosen = permutations(space, 11)
    twin = permuted(module, space, chosen)
    images = torch.from_numpy(images_of(shape).images)
    with torch.no_grad():
        assert torch.allclose(twin(images), module(images), atol=1e-5)
    criterion, evidence = quick(name), evidence_for(shape)
    scores = criterion.scores(module, space.groups, evidence)
    moved = criterion.scores(twin, space.groups, evidence)
    for group, values in scores.items():
        np.testing.assert_allclose(moved[group], values[chosen[group]], rtol=2e-3, atol=1e-3 * np.abs(values).max())


@pytest.mark.parametrize("name", [name for name in list_criteria() if get_criterion(name).seeded])
def test_the_seed_decides(name: str, make: Callable, space_of: Callable) -> None:
    module, shape = make("resnet8-projection")
    groups = space_of("resnet8-projection").groups
    criterion = quick(name)
    scores = [criterion.scores(module, groups, evidence_for(shape, seed)) for seed in (0, 1)]
    assert criterion.provenance(evidence_for(shape, 0)) != criterion.provenance(evidence_for(shape, 1))
    if name != "lfpc":  # whose seeds may come to the same choice
        assert any(not np.array_equal(scores[0][group], scores[1][group]) for group in scores[0])


@pytest.mark.parametrize("name", [name for name in list_criteria() if get_criterion(name).needs_images])
def test_missing_images_are_named_with_the_remedy(name: str, make: Callable, space_of: Callable) -> None:
    module, shape = make("lenet5")
    with pytest.raises(ModelError, match=f"'{name}' looks at images and got none: give it training images"):
        plan_surgery(module, space_of("lenet5"), get_criterion(name))
    with pytest.raises(ModelError, match=f"'{name}'.*LeNet5 fails on the images it was given"):
        plan_surgery(module, space_of("lenet5"), get_criterion(name), evidence_for((3, 9, 9)))
    if name in ("clad", "lfpc"):
        with pytest.raises(ModelError, match=f"'{name}' needs at least 2 images and got 1: batch normalisation"):
            plan_surgery(module, space_of("lenet5"), get_criterion(name), Evidence(images_of(shape, 1)))
    if name != "activation":  # which looks at no labels
        wrong = ImageSet(images_of(shape).images, np.full(10, 77))
        with pytest.raises(ModelError, match=f"'{name}'.*out of bounds"):
            plan_surgery(module, space_of("lenet5"), get_criterion(name), Evidence(wrong))


@pytest.mark.parametrize("name", ["taylor", "lfpc", "clad"])
def test_a_network_without_one_tensor_of_logits_is_refused(name: str, make: Callable, space_of: Callable) -> None:
    module, shape = make("two-heads")
    with pytest.raises(ModelError, match=r"needs a network that gives one tensor of logits .* TwoHeads does not: wrap"):
        plan_surgery(module, space_of("two-heads"), get_criterion(name), evidence_for(shape))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("l3", {}, "no criterion 'l3'; known are activation, bn-scale, clad"),
        ("l1", {"p": 1}, "criterion 'l1' has no setting 'p'; it has none"),
        ("clad", {"epoch": 1}, "has no setting 'epoch'; it has epochs, learning_rate"),
        ("clad", {"epochs": 0}, "epochs is 0: it must be at least 1"),
        ("clad", {"epochs": 1.5}, "epochs is 1.5, it must be like its default, which is 12"),
        ("clad", {"target": 2}, "target is 2.0: it must be above 0 and at most 1"),
        ("lfpc", {"choices": ["l1", "taylor"]}, "criteria that look at weights; 'taylor' is none"),
        ("lfpc", {"choices": ["l1"]}, "at least two names"),
    ],
)
def test_unknown_names_and_settings_are_refused(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        get_criterion(name, settings)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'clad' is registered already"):
        register_criterion(CLAD)


def test_evidence_is_drawn_equally_from_the_classes_and_says_what_it_is() -> None:
    train = images_of((1, 4, 4), 100)
    one, same, other = (Evidence.drawn(train, 40, seed=seed) for seed in (1, 1, 2))
    assert one.images is not None
    shares = np.bincount(one.images.labels) / 40 - np.bincount(train.labels) / 100
    assert np.abs(shares).max() < 1 / 40
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert len(set(one.images.labels[:8])) > 1
    assert Taylor().provenance(one) == f"taylor on 40 images {one.fingerprint} in batches of 64"
    assert get_criterion("l1").provenance(one) == "l1"
    assert "seed 1" in CLAD().provenance(one)
    assert len(Evidence.drawn(train, 1000).images or ()) == 100
    with pytest.raises(UserError, match="0 images were asked for"):
        Evidence.drawn(train, 0)


@pytest.mark.parametrize("network", NETWORKS)
def test_gates_of_zero_and_one_are_the_silenced_network(network: str, make: Callable, space_of: Callable) -> None:
    module, shape = make(network)
    space: PruningSpace = space_of(network)
    plan = plan_surgery(module, space)
    candidate = space.candidate([levels[len(levels) // 2] for levels in map(space.levels, range(len(space.groups)))])
    kept = plan.kept(candidate)
    gates = {group.name: torch.zeros(group.width) for group in space.groups}
    for name, channels in kept.items():
        gates[name][list(channels)] = 1
    images = torch.from_numpy(images_of(shape).images)
    with torch.no_grad():
        with masked(module, space.groups, kept):
            expected = module(images)
        with gated(module, space.groups, gates):
            found = module(images)
        with gated(module, space.groups, {name: gate.expand(len(images), -1) for name, gate in gates.items()}):
            each = module(images)
    assert torch.allclose(found, expected, atol=1e-5 * max(1.0, float(expected.abs().max())))
    assert torch.equal(each, found)
    work = SoftWork(module, space.groups, images[:1])
    smaller = SoftWork(plan.apply(candidate), (), images[:1])
    assert float(work(gates)) == pytest.approx(smaller.total / work.total, rel=1e-4)


def test_taylor_scores_do_not_depend_on_the_batches(make: Callable, space_of: Callable) -> None:
    module, shape = make("resnet8-projection")
    groups, images = space_of("resnet8-projection").groups, images_of(shape)
    for criterion in (Taylor(), Activation()):
        whole = criterion.scores(module, groups, Evidence(images, batch_size=10))
        parts = criterion.scores(module, groups, Evidence(images, batch_size=3))
        for group in whole:
            np.testing.assert_allclose(parts[group], whole[group], rtol=1e-3)


def test_taylor_is_the_squared_change_of_each_image_s_loss(make: Callable, space_of: Callable) -> None:
    module, shape = make("lenet5")
    module, groups = module.double(), space_of("lenet5").groups
    images = images_of(shape)
    maps, labels = torch.from_numpy(images.images).double(), torch.from_numpy(images.labels)
    step, group = 1e-6, groups[1]
    losses = []
    for shift in (-step, step):
        gates = {each.name: torch.ones(each.width, dtype=torch.float64) for each in groups}
        gates[group.name][4] += shift
        with torch.no_grad(), gated(module, groups, gates):
            losses.append(nn.functional.cross_entropy(module(maps), labels, reduction="none"))
    expected = float(((losses[1] - losses[0]) / (2 * step)).square().mean())
    scores = Taylor().scores(module.float(), groups, Evidence(images))
    assert scores[group.name][4] == pytest.approx(expected, rel=1e-3)


def test_a_channel_that_nothing_reads_has_no_importance(make: Callable, space_of: Callable) -> None:
    module, shape = make("resnet8-projection")
    space = space_of("resnet8-projection")
    group = next(group for group in space.groups if group.name == "layer2.0.conv1")
    module.layer2[0].conv2.weight.data[:, 5] = 0
    for name in ("taylor", "activation"):
        scores = get_criterion(name).scores(module, space.groups, evidence_for(shape))[group.name]
        assert scores[5] == 0 < np.delete(scores, 5).min()
        assert channel_order(module, space.groups, get_criterion(name), evidence_for(shape))[group.name][-1] == 5


def test_filters_in_the_middle_of_the_others_go_first_by_geometric_median() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(2, 3))
    network[0].weight.data = torch.tensor([0.0, 10.0, 11.0, 30.0]).view(4, 1, 1, 1)
    space = pruning_space(network, (1, 1, 1))
    scores = get_criterion("fpgm").scores(network, space.groups, Evidence())["0"]
    assert scores.tolist() == [51, 31, 31, 69]
    assert channel_order(network, space.groups, get_criterion("l2"))["0"] == (3, 2, 1, 0)


def test_batch_norm_scales_are_taken_with_their_absolute_value(make: Callable, space_of: Callable) -> None:
    module, _shape = make("resnet8-projection")
    module.layer1[0].bn1.weight.data[3] = -9.0
    groups = space_of("resnet8-projection").groups
    assert channel_order(module, groups, get_criterion("bn-scale"))["layer1.0.conv1"][0] == 3
    assert np.array_equal(  # without normalisations it is the L1 norm
        get_criterion("bn-scale").scores(make("lenet5")[0], space_of("lenet5").groups, Evidence())["conv1"],
        get_criterion("l1").scores(make("lenet5")[0], space_of("lenet5").groups, Evidence())["conv1"],
    )


def test_polarisation_is_least_at_the_poles() -> None:
    half = torch.tensor([0.0, 1.0]).repeat(8)
    assert float(polarisation(half, 1.0)) == pytest.approx(0.0)
    assert float(polarisation(torch.full((16,), 0.5), 1.0)) == pytest.approx(0.5)
    assert float(polarisation(half, 2.0)) == pytest.approx(0.5)


def test_attention_is_compared_at_the_end_of_each_resolution(make: Callable) -> None:
    module, shape = make("resnet8-projection")
    assert find_points(module, torch.zeros(2, *shape)) == (("layer1", 0), ("layer2", 0), ("layer3", 0))


def test_the_learners_of_clad_keep_the_budget_and_lower_their_loss(make: Callable, space_of: Callable) -> None:
    module, shape = make("resnet8-projection")
    learned = CLAD(epochs=25).learn(module, space_of("resnet8-projection").groups, evidence_for(shape))
    assert len(learned.losses) == 25 * 3
    assert np.mean(learned.losses[-10:]) < np.mean(learned.losses[:10])
    assert abs(learned.work - 0.5) < 0.1
    assert all((values > 0).all() and (values < 1).all() for values in learned.importances.values())


def test_lfpc_gives_each_group_one_of_its_choices(make: Callable, space_of: Callable) -> None:
    module, shape = make("resnet8-projection")
    groups, criterion = space_of("resnet8-projection").groups, LFPC(epochs=2)
    chosen = criterion.chosen(module, groups, evidence_for(shape))
    scores = criterion.scores(module, groups, evidence_for(shape))
    for group in groups:
        assert chosen[group.name] in criterion.choices
        plain = get_criterion(chosen[group.name]).scores(module, groups, Evidence())
        assert np.array_equal(scores[group.name], plain[group.name])


@pytest.mark.data
@pytest.mark.slow
def test_clad_beats_a_random_order_on_cifar(shared_data: Path) -> None:
    data = load_images(
        DataConfig(
            "parquet",
            shared_data / "cifar10" / "cifar10-train.parquet",
            shared_data / "cifar10" / "cifar10-test.parquet",
            limit=1500,
            validation=200,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
    )
    network = build_model("resnet20", num_classes=10, in_channels=3)
    load_weights(network, shared_data / "weights" / "resnet20-jpeg.pt")
    space = pruning_space(network, data.input_shape)
    half = space.candidate([group.width // 2 for group in space.groups])
    evidence = Evidence.drawn(data.train, 512)
    errors = {}
    for name in ("clad", "taylor", "random"):
        plan = plan_surgery(network, space, get_criterion(name), evidence)
        errors[name] = (
            ErrorEstimator(RECALIBRATED, plan, Recalibration(data.train), HeldOut(data.test), threads=1)
            .estimate(half)
            .error
        )
    assert errors["clad"] < errors["random"]
    assert errors["taylor"] < errors["random"]
