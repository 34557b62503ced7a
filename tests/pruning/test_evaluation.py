"""The judge counts mistakes honestly, repeats itself and changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.errors import ModelError
from hwloop.models import build_model, load_weights
from hwloop.pruning import (
    RECALIBRATED,
    ErrorEstimator,
    FineTuning,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
    fold,
    foldable_pairs,
    held_out,
    plan_surgery,
    preparation,
    pruning_space,
    recalibrate,
    wilson_interval,
)
from hwloop.training import FitConfig, error_count, fit


def judge_of(plan: SurgeryPlan, data: ImageData, *, fast: bool = True, **options: Any) -> ErrorEstimator:
    return ErrorEstimator(
        RECALIBRATED, plan, Recalibration(data.train, fast=fast), HeldOut(data.validation, fast=fast), **options
    )


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_images(DataConfig())


@pytest.fixture(scope="module")
def trained(digits: ImageData) -> tuple[nn.Module, PruningSpace, SurgeryPlan]:
    torch.manual_seed(0)
    network = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"})
    fit(network, digits.train, config=FitConfig(epochs=6))
    space = pruning_space(network, digits.input_shape, grain=4)
    return network, space, plan_surgery(network, space)


def test_the_estimate_is_the_error_of_the_recalibrated_candidate(digits: ImageData, trained: tuple) -> None:
    _, space, plan = trained
    judge = judge_of(plan, digits, fast=False)
    rng = np.random.default_rng(1)
    for candidate in (space.base, *(space.random(rng) for _ in range(4))):
        estimate = judge.estimate(candidate)
        expected = error_count(judge.prepared(candidate), digits.validation)
        assert abs(estimate.errors - expected) <= 1  # folding rounds differently
        assert estimate.n == len(digits.validation)
        assert estimate.error == estimate.errors / estimate.n
        assert estimate.low <= estimate.error <= estimate.high


def test_the_trained_base_is_good_and_a_gutted_one_is_bad(digits: ImageData, trained: tuple) -> None:
    _, space, plan = trained
    judge = judge_of(plan, digits)
    assert judge.estimate(space.base).error < 0.1
    gutted = space.candidate([space.levels(group)[0] for group in range(len(space.groups))])
    assert judge.estimate(gutted).error > 0.4


def test_recalibration_helps_a_pruned_network(digits: ImageData, trained: tuple) -> None:
    _, space, plan = trained
    candidate = space.candidate([group.width * 3 // 4 for group in space.groups])
    raw = error_count(plan.apply(candidate), digits.validation)
    assert judge_of(plan, digits).estimate(candidate).errors < raw


def test_estimates_repeat_in_any_order_and_are_cached(digits: ImageData, trained: tuple) -> None:
    _, space, plan = trained
    rng = np.random.default_rng(2)
    candidates = [space.random(rng) for _ in range(4)]
    ticks = iter(range(100))
    first = judge_of(plan, digits, clock=lambda: next(ticks))
    second = judge_of(plan, digits)
    forwards = [first.estimate(candidate) for candidate in candidates]
    backwards = [second.estimate(candidate) for candidate in reversed(candidates)][::-1]
    assert [estimate.errors for estimate in forwards] == [estimate.errors for estimate in backwards]
    assert [estimate.seconds for estimate in forwards] == [1.0] * 4
    assert first.estimate(replace(candidates[0])) is forwards[0]
    assert next(ticks) == 8
    assert first.evaluate(candidates[0]).errors == forwards[0].errors


def test_judging_leaves_base_threads_and_random_state_alone(digits: ImageData, trained: tuple) -> None:
    network, space, plan = trained
    before = {key: value.clone() for key, value in network.state_dict().items()}
    mode, threads, state = network.training, torch.get_num_threads(), torch.get_rng_state()
    seen: list[int] = []
    network.linear.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    judge_of(plan, digits, threads=1).estimate(space.base)
    network.linear._forward_hooks.clear()
    assert set(seen[-1:]) == {1}
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training == mode
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_bfloat16_agrees_nearly_with_float32(
    digits: ImageData, trained: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, space, plan = trained
    exact = judge_of(plan, digits, fast=False)
    for module in (held_out, preparation):
        monkeypatch.setattr(module, "fast_dtype", lambda: torch.bfloat16)
    fast = judge_of(plan, digits)
    for name in ("judge_dtype", "recalibration_dtype"):
        assert (exact.conditions[name], fast.conditions[name]) == ("float32", "bfloat16")
    assert abs(fast.estimate(space.base).errors - exact.estimate(space.base).errors) <= 3


def test_fine_tuning_recovers_a_pruned_network_and_repeats_itself(digits: ImageData, trained: tuple) -> None:
    _, space, plan = trained
    half = space.candidate([group.width // 2 for group in space.groups])
    tuning = FineTuning(digits.train, FitConfig(epochs=4, batch_size=64), images=1000)
    first, second = (
        ErrorEstimator("short-fine-tune", plan, tuning, HeldOut(digits.validation)).estimate(half) for _ in range(2)
    )
    assert first.errors < judge_of(plan, digits).estimate(half).errors
    assert (first.errors, first.fidelity) == (second.errors, "short-fine-tune")
    assert tuning.conditions["finetune_images"] == "1000"


def test_a_hopeless_candidate_is_stopped_early_and_counted_on_when_the_limit_allows(
    digits: ImageData, trained: tuple
) -> None:
    _, space, plan = trained
    everything = digits.train  # enough images for several looks
    judge = ErrorEstimator(RECALIBRATED, plan, Recalibration(digits.train), HeldOut(everything))
    thin = space.candidate([space.levels(group)[0] for group in range(len(space.groups))])
    stopped = judge.estimate(thin, limit=0.1)
    assert not stopped.complete
    assert stopped.n < len(everything)
    assert stopped.low > 0.1
    assert judge.estimate(thin, limit=0.05) is stopped
    whole = judge.estimate(thin)
    assert whole.complete
    assert whole.n == len(everything)
    assert judge.estimate(thin, limit=0.1) is whole
    assert judge.evaluate(space.base, limit=0.1).complete


def test_every_beginning_of_the_held_out_images_is_counted_alike(digits: ImageData, trained: tuple) -> None:
    network, _, plan = trained
    held = HeldOut(digits.validation, batch_size=32)
    ready = plan.apply(trained[1].base)
    held.ready(ready, foldable_pairs(network, digits.input_shape))
    whole = held.predictions(ready)
    assert np.array_equal(np.concatenate([held.predictions(ready, 0, 70), held.predictions(ready, 70)]), whole)
    assert held.errors(ready) == held.errors(ready, 0, 70) + held.errors(ready, 70)


def test_networks_without_batch_normalisation_are_judged(digits: ImageData) -> None:
    data = load_images(DataConfig(image_size=16, limit=300))
    torch.manual_seed(0)
    network = build_model("lenet5", num_classes=10, in_channels=1, image_size=16)
    space = pruning_space(network, data.input_shape)
    judge = judge_of(plan_surgery(network, space), data)
    assert judge.estimate(space.base).errors == error_count(network, data.validation)


def test_too_few_images_are_refused(digits: ImageData) -> None:
    nothing = digits.train.take(np.zeros(0, dtype=np.int64))
    with pytest.raises(ModelError, match="recalibration has 0 images"):
        Recalibration(nothing)
    with pytest.raises(ModelError, match="validation has no images"):
        HeldOut(nothing)


def test_the_wilson_interval_is_that_of_the_textbook() -> None:
    # Agresti and Coull 1998, "Approximate is better than exact": 0 and 10 of 10, and a middling share
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert wilson_interval(30, 100) == pytest.approx((0.21895, 0.39585), abs=1e-5)


def test_recalibration_gives_the_plain_average_of_the_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.Dropout(0.5)).train()
    batches = [torch.randn(8, 2, 3, 3) * scale for scale in (1.0, 5.0)]
    recalibrate(network, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(network[0].running_mean, means, atol=1e-6)
    assert torch.allclose(network[0].running_var, variances, atol=1e-4)
    assert network[0].momentum == 0.3
    assert network.training
    assert network[1].training


@pytest.mark.parametrize(
    ("name", "pairs"), [("resnet8-projection", 9), ("resnet20-pad", 19), ("depthwise-concat", 5), ("lenet5", 0)]
)
def test_folding_keeps_the_outputs(make: Callable, name: str, pairs: int) -> None:
    network, shape = make(name)
    found = foldable_pairs(network, shape)
    assert len(found) == pairs
    images = torch.randn(3, *shape)
    with torch.inference_mode():
        expected = network(images)
    fold(network, found)
    with torch.inference_mode():
        assert torch.allclose(network(images), expected, atol=1e-4 * max(1.0, float(expected.abs().max())))


def test_a_convolution_that_something_else_reads_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.conv(images)
            return self.norm(maps) + maps

    assert foldable_pairs(Twice(), (1, 5, 5)) == ()


@pytest.mark.data
def test_the_adapted_resnet20_keeps_its_accuracy_on_cifar(shared_data: Path) -> None:
    folder = shared_data / "cifar10"
    data = load_images(
        DataConfig(
            "parquet",
            folder / "cifar10-train.parquet",
            folder / "cifar10-test.parquet",
            limit=1500,
            validation=500,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )
    )
    network = build_model("resnet20", num_classes=10, in_channels=3)
    load_weights(network, shared_data / "weights" / "resnet20-jpeg.pt")
    space = pruning_space(network, data.input_shape)
    judge = ErrorEstimator(RECALIBRATED, plan_surgery(network, space), Recalibration(data.train), HeldOut(data.test))
    assert judge.estimate(space.base).error < 0.16
    thin = space.candidate([max(1, width // 8) for width in space.base.widths])
    assert judge.estimate(space.base).error < judge.estimate(thin).error
